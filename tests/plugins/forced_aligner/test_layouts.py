"""The layout of qwen-asr is read strictly, to the same model as that of transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import sottovoce
from plugins.forced_aligner.tiny import make_model, make_original
from sottovoce.entrypoints.save import probe
from sottovoce.errors import CheckpointError, SourceError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("aligner") / "transformers"
    make_model(directory)
    return directory


@pytest.fixture
def original(source: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "original"
    directory.mkdir()
    make_original(directory, source)
    return directory


def change_config(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((directory / "config.json").read_text())
    change(config)
    (directory / "config.json").write_text(json.dumps(config))


def change_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_layouts_are_one_model(dtype: torch.dtype, tmp_path: Path) -> None:
    make_model(tmp_path / "transformers", dtype)
    (tmp_path / "original").mkdir()
    make_original(tmp_path / "original", tmp_path / "transformers")
    stock, ours = sottovoce.load(tmp_path / "transformers"), sottovoce.load(tmp_path / "original")
    assert type(ours.native) is type(stock.native)
    assert ours.native.dtype == dtype
    expected = stock.module.state_dict()
    assert expected.keys() == ours.module.state_dict().keys()
    assert all(tensor.equal(expected[name]) for name, tensor in ours.module.state_dict().items())
    assert probe(ours).equal(probe(stock))


def test_the_processors_give_the_same_inputs(source: Path, original: Path) -> None:
    stock, ours = sottovoce.load(source), sottovoce.load(original)
    sample = stock.architecture.runner.probe(stock)
    given = {"audio": [sample.audio], "transcript": ["It's 5 度 today"], "language": ["en"]}
    expected, words = stock.processor.prepare_forced_aligner_inputs(**given)
    found, same_words = ours.processor.prepare_forced_aligner_inputs(**given)
    assert words == same_words == [["It's", "5", "度", "today"]]
    assert expected.keys() == found.keys()
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    assert ours.processor.timestamp_segment_time == 80


def test_the_audio_markers_need_no_mention(source: Path, original: Path) -> None:
    path = original / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in settings.items() if not key.startswith("audio_")}))
    assert probe(sottovoce.load(original)).equal(probe(sottovoce.load(source)))


def test_rotary_positions_can_be_written_the_new_way(source: Path, original: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        text = config["thinker_config"]["text_config"]
        text["rope_parameters"] = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}

    change_config(original, change)
    assert probe(sottovoce.load(original)).equal(probe(sottovoce.load(source)))


def test_what_is_saved_is_the_layout_of_transformers(original: Path, tmp_path: Path) -> None:
    from transformers import AutoProcessor, Qwen3ASRForTokenClassification

    model = sottovoce.load(original)
    saved = sottovoce.save(model, tmp_path / "saved")
    native, info = Qwen3ASRForTokenClassification.from_pretrained(saved, output_loading_info=True)
    assert not any(info.values())
    processor = AutoProcessor.from_pretrained(saved)
    inputs, _ = processor.prepare_forced_aligner_inputs(
        audio=[model.architecture.runner.probe(model).audio], transcript=["打开客厅的灯"], language=["zh"]
    )
    with torch.inference_mode():
        assert native.eval()(**inputs).logits[0].equal(probe(model))


def test_options_reach_the_model(original: Path) -> None:
    native = sottovoce.load(original, dtype="bfloat16", attn_implementation="eager").native
    assert native.dtype == torch.bfloat16
    assert native.config._attn_implementation == "eager"


@pytest.mark.parametrize("layout", ["original", "transformers"])
def test_the_recognizer_is_refused(layout: str, original: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        thinker = config["thinker_config"]
        del thinker["classify_num"], config["timestamp_token_id"], config["timestamp_segment_time"]
        if layout == "transformers":
            config |= {"audio_config": thinker["audio_config"], "text_config": thinker["text_config"]}
            del config["thinker_config"]

    change_config(original, change)
    with pytest.raises(SourceError, match=r"is the recognizer \(Qwen3-ASR\), not the aligner; give Qwen/\S+$"):
        sottovoce.load(original)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensors: tensors.pop("thinker.lm_head.weight"), "1 missing: score.weight"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "1 unexpected: extra"),
        (
            lambda tensors: tensors.update({"thinker.audio_tower.proj2.bias": torch.zeros(3)}),
            "1 misshapen: model.multi_modal_projector.linear_2.bias [3] for [64]",
        ),
    ],
)
def test_tensors_must_fit(change: Callable[[dict[str, torch.Tensor]], object], problem: str, original: Path) -> None:
    change_tensors(original, change)
    with pytest.raises(CheckpointError, match=re.escape(problem)):
        sottovoce.load(original)


def test_unexpected_tensors_can_be_left_out(original: Path) -> None:
    change_tensors(original, lambda tensors: tensors.update(extra=torch.zeros(1)))
    sottovoce.load(original, allow_unexpected=("extra",))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda config: config["thinker_config"].pop("audio_config"), "thinker_config has no audio_config"),
        (lambda config: config["thinker_config"]["audio_config"].pop("n_window"), "audio_config.n_window is missing"),
        (lambda config: config["thinker_config"]["text_config"].pop("head_dim"), "text_config.head_dim is missing"),
        (lambda config: config["thinker_config"]["text_config"].pop("rope_theta"), "text_config.rope_theta is missing"),
        (lambda config: config.pop("timestamp_token_id"), "timestamp_token_id is missing"),
        (lambda config: config.update(timestamp_token_id=5), "the tokenizer's <timestamp> is not the configuration's"),
        (
            lambda config: config["thinker_config"]["text_config"]["rope_scaling"].update(rope_type="yarn"),
            "'yarn' is not known here",
        ),
        (lambda config: config.update(auto_map={"AutoModel": "evil.Model"}), "auto_map is refused"),
    ],
)
def test_a_configuration_must_be_whole(
    change: Callable[[dict[str, Any]], object], problem: str, original: Path
) -> None:
    change_config(original, change)
    with pytest.raises(SourceError, match=re.escape(problem)) as caught:
        sottovoce.load(original)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer_config.json", "vocab.json", "merges.txt"])
def test_a_missing_or_damaged_file_of_the_processor_is_named(name: str, original: Path) -> None:
    (original / name).write_bytes(b"\xff\x00 not a file")
    if name != "merges.txt":  # where anything is a line
        with pytest.raises(SourceError, match=r"cannot be read"):
            sottovoce.load(original)
    (original / name).unlink()
    with pytest.raises(SourceError, match=re.escape(name)):
        sottovoce.load(original)


def test_sharded_weights_are_read_and_stay_inside(original: Path) -> None:
    tensors = load_file(original / "model.safetensors")
    (original / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, original / file)
    weight_map = {name: file for file, part in halves.items() for name in part}
    index = original / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    sottovoce.load(original)
    index.write_text(json.dumps({"weight_map": {**weight_map, names[0]: "../secret.safetensors"}}))
    with pytest.raises(SourceError, match=r"leaves the model's directory"):
        sottovoce.load(original)
