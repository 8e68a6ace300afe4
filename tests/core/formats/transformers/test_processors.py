"""Processors, tokenizers and what is said of generation: looked at before transformers reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from sottovoce.errors import SourceError
from sottovoce.formats.transformers.processors import check_files

MODELS = Path(__file__).parents[4] / "examples" / "models"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODELS / "tiny-aligner", tmp_path / "m"))


def change(path: Path, **values: Any) -> None:
    form = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(form | values), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("processor_config.json", {"audio_tokenizer": {"audio_tokenizer_name_or_path": "owner/model"}}),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "x.X"}}),
        ("processor_config.json", {"tokenizer_path": "x"}),
        ("tokenizer_config.json", {"vocab_dir": "x"}),
        ("tokenizer_config.json", {"tokenizer_class": "owner/model"}),
        ("tokenizer_config.json", {"base": "../../x"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.X", None]}}),
        ("generation_config.json", {"assistant_model": "owner/model"}),
        ("generation_config.json", {"custom_generate": "owner/model"}),
        ("preprocessor_config.json", {"feature_extractor_type": "/etc/x"}),
    ],
    ids=str,
)
def test_words_that_lead_elsewhere_are_refused(name: str, values: dict[str, Any], model: Path) -> None:
    change(model / name, **values)
    with pytest.raises(SourceError, match=f"{name}: .* is refused"):
        check_files(model)


@pytest.mark.parametrize("name", ["adapter_config.json", "audio_tokenizer_config.json"])
def test_files_that_lead_to_another_model_are_refused(name: str, model: Path) -> None:
    change(model / name, base_model_name_or_path="owner/model")
    with pytest.raises(SourceError, match=name):
        sottovoce.load(model)


def test_what_a_tokenizer_keeps_of_its_past_is_taken(model: Path) -> None:
    change(
        model / "tokenizer_config.json",
        name_or_path="/home/x/model",
        special_tokens_map_file="/home/a/.cache/x.json",
        tokenizer_file="/home/ann/x/tokenizer.json",
        additional_special_tokens=["<|audio_start|>"],
        errors="replace",
    )
    assert sottovoce.load(model).processor is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_fft", 2_000_000),
        ("feature_size", 10**6),
        ("hop_length", 0),
        ("hop_length", -160),
        ("sampling_rate", 10**9),
        ("chunk_length", 10**9),
    ],
)
def test_numbers_that_fill_a_memory_are_refused(key: str, value: int, model: Path) -> None:
    path = model / "processor_config.json"
    features = json.loads(path.read_text(encoding="utf-8"))["feature_extractor"]
    change(path, feature_extractor=features | {key: value})
    with pytest.raises(SourceError, match=f"feature_extractor.{key} is {value}, which is not between"):
        sottovoce.load(model)


def missing(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [missing, emptied, folder])
def test_a_tokenizer_that_is_not_there_is_missed(damage: Callable[[Path], None], model: Path) -> None:
    damage(model / "tokenizer.json")
    with pytest.raises(SourceError, match="the tokenizer is missing"):
        sottovoce.load(model)


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"version": "1.0"}', "\x00", '"x"'])
def test_a_tokenizer_that_is_none_is_one_line(content: str, model: Path) -> None:
    (model / "tokenizer.json").write_text(content)
    with pytest.raises(SourceError, match="tokenizer") as caught:
        sottovoce.load(model)
    assert len(str(caught.value)) <= 300


def edit(model: Path, edited: Callable[[dict[str, Any]], None]) -> None:
    path = model / "tokenizer.json"
    form = json.loads(path.read_text(encoding="utf-8"))
    edited(form)
    path.write_text(json.dumps(form), encoding="utf-8")


def test_special_tokens_of_other_numbers_are_not_the_models(model: Path) -> None:
    def exchange(form: dict[str, Any]) -> None:
        by_content = {token["content"]: token for token in form["added_tokens"]}
        first, second = by_content["<|audio_pad|>"], by_content["<|audio_start|>"]
        first["content"], second["content"] = second["content"], first["content"]

    edit(model, exchange)
    with pytest.raises(SourceError, match="tokenizer"):
        sottovoce.load(model)


def test_a_tokenizer_of_a_larger_model_is_refused(model: Path) -> None:
    def add(form: dict[str, Any]) -> None:
        last = max(token["id"] for token in form["added_tokens"])
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        form["added_tokens"] += [{"id": last + n, "content": f"<more{n}>", **plain} for n in range(1, 500)]

    edit(model, add)
    with pytest.raises(SourceError, match=r"the tokenizer has \d+ tokens, the model \d+"):
        sottovoce.load(model)
