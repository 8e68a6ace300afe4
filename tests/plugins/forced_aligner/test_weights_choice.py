"""Of two sets of weights in one directory, the one that stock transformers loads is loaded, or the one asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sottovoce
from plugins.forced_aligner.tiny import make_model, make_original
from sottovoce.errors import UsageError

INDEX = "model.safetensors.index.json"
STALE = "model-00001-of-00001.safetensors"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    make_model(root / "transformers")
    (root / "original").mkdir()
    make_original(root / "original", root / "transformers")
    for name in ("transformers", "original"):
        tensors = load_file(root / name / "model.safetensors")
        stale = {key: tensor + 1 for key, tensor in tensors.items()}
        save_file(stale, root / name / STALE, metadata={"format": "pt"})
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(stale, STALE)}
        (root / name / INDEX).write_text(json.dumps(index))
        torch.save(stale, root / name / "model.pt")
    return root


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("layout", ["transformers", "original"])
def test_what_stock_transformers_loads_is_loaded_and_said(
    layout: str, stream: bool, pristine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import Qwen3ASRForTokenClassification

    stock = Qwen3ASRForTokenClassification.from_pretrained(pristine / "transformers")
    found = sottovoce.load(pristine / layout, stream=stream)
    assert found.module.score.weight.equal(stock.score.weight)  # type: ignore[union-attr, arg-type, operator]
    assert [record for record in caplog.records if "reading the weights model.safetensors" in record.getMessage()]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("layout", ["transformers", "original"])
@pytest.mark.parametrize("asked", [INDEX, STALE])
def test_what_is_asked_for_is_loaded(asked: str, layout: str, stream: bool, pristine: Path) -> None:
    found = sottovoce.load(pristine / layout, weights=asked, stream=stream)
    expected = load_file(pristine / "transformers" / STALE)["score.weight"]
    assert found.module.score.weight.equal(expected)  # type: ignore[union-attr, arg-type, operator]


@pytest.mark.parametrize("layout", ["transformers", "original"])
def test_a_pickle_cannot_be_asked_for(layout: str, pristine: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.pt: such a model is read from safetensors"):
        sottovoce.load(pristine / layout, weights="model.pt")


def test_a_compressed_model_beside_stale_weights_is_itself(pristine: Path, tmp_path: Path) -> None:
    model = sottovoce.load(pristine / "transformers")
    sottovoce.compress(model, "int8")
    small = sottovoce.save(model, tmp_path / "small")
    for name in (INDEX, STALE):
        shutil.copyfile(pristine / "transformers" / name, small / name)
    found = sottovoce.load(small)
    assert found.module.score.weight.equal(model.module.score.weight)  # type: ignore[union-attr, arg-type, operator]


@pytest.mark.parametrize("layout", ["transformers", "original"])
def test_keywords_of_transformers_are_heeded(layout: str, pristine: Path) -> None:
    model = sottovoce.load(pristine / layout, attn_implementation="eager", initializer_range=0.5)
    assert model.native.config._attn_implementation == "eager"
    assert model.native.config.initializer_range == 0.5


@pytest.mark.parametrize("layout", ["transformers", "original"])
def test_keywords_that_transformers_has_not_are_refused(layout: str, pristine: Path) -> None:
    with pytest.raises(UsageError, match=r"attn_implementaton \(did you mean attn_implementation\?\)"):
        sottovoce.load(pristine / layout, attn_implementaton="eager")


def test_paths_that_the_configuration_has_are_not_written(pristine: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(pristine / "transformers", tmp_path / "source"))
    for name, changes in (
        ("config.json", {"_name_or_path": "/data/ann/run-3", "text_config": {"_name_or_path": "C:\\models\\base"}}),
        ("tokenizer_config.json", {"name_or_path": "/data/ann/run-3", "tokenizer_file": "/data/ann/tokenizer.json"}),
    ):
        config = json.loads((source / name).read_text())
        config |= {
            key: {**config[key], **value} if isinstance(value, dict) else value for key, value in changes.items()
        }
        (source / name).write_text(json.dumps(config))
    for recipe in (None, "int8"):
        model = sottovoce.load(source)
        if recipe:
            sottovoce.compress(model, recipe)
        written = sottovoce.save(model, tmp_path / f"out-{recipe}")
        for path in written.glob("*.json"):
            text = path.read_text()
            assert "/data/ann" not in text
            assert "models\\\\base" not in text
