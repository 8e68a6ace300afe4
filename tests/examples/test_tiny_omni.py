"""The bundled omni model answers about voices, pictures and strings it was never given, and says its answers."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from sottovoce import Model, Sample, Samples
from sottovoce_omni_moe.conversation import inputs, predict
from sottovoce_omni_moe.speech import Speech, speak

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data" / "omni-tasks"
MODEL = EXAMPLES / "models" / "tiny-omni"
MODALITIES = ("text", "audio", "image", "video")
SLICE = 25
FRAMES = 3
"""Of speech for a token of the answer."""


def rows(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def parts(split: str) -> list[dict[str, Any]]:
    return [part for row in rows(split) for message in row["messages"] for part in message["content"]]


@pytest.fixture(scope="module")
def training() -> dict[str, Any]:
    return json.loads((MODEL / "training.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model() -> Model:
    return sottovoce.load(MODEL)


@pytest.fixture(scope="module")
def stock() -> tuple[Any, dict[str, Any]]:
    from transformers import Qwen3OmniMoeForConditionalGeneration

    native, notes = Qwen3OmniMoeForConditionalGeneration.from_pretrained(MODEL, output_loading_info=True)
    return native.eval(), notes


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Sample]]:
    read = sottovoce.read_samples(DATA / "test.jsonl")
    return {kind: [sample for sample in read if sample.modality == kind][:SLICE] for kind in MODALITIES}


@pytest.fixture(scope="module")
def report(model: Model, samples: dict[str, list[Sample]]) -> sottovoce.EvaluationReport:
    return sottovoce.evaluate(model, Samples(tuple(sample for kind in MODALITIES for sample in samples[kind])))


def test_every_modality_is_in_both_splits_and_its_media_are_there() -> None:
    calibration = Counter(row["modality"] for row in rows("calibration"))
    assert set(calibration) == set(MODALITIES)
    assert calibration["text"] == max(calibration.values())
    assert min(Counter(row["modality"] for row in rows("test")).values()) >= 60
    named = [name for split in ("calibration", "test") for part in parts(split) for name in names(part)]
    assert len(named) == len(set(named))
    assert {path.relative_to(DATA).as_posix() for path in DATA.rglob("*.*") if path.suffix != ".jsonl"} == set(named)
    assert sum(path.stat().st_size for path in DATA.rglob("*.*")) <= 4e6


def names(part: dict[str, Any]) -> list[str]:
    media = part.get(part["type"], [])
    return [] if part["type"] == "text" else [media] if isinstance(media, str) else media


def test_neither_voices_nor_strings_of_the_test_were_calibrated_or_trained_on() -> None:
    command = [sys.executable, "-c", "import json, make_speech; print(json.dumps(make_speech.TRAIN_VOICES))"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXAMPLES)
    voices = {row["voice"] for row in rows("test") if row["modality"] == "audio"}
    assert len(voices) == 8
    assert not voices & set(json.loads(done.stdout))
    assert {row["voice"] for row in rows("calibration") if row["modality"] == "audio"} <= set(json.loads(done.stdout))
    questions = [
        {part["text"] for part in parts(split) if ":" in part.get("text", "")} for split in ("test", "calibration")
    ]
    assert not questions[0] & questions[1]


def test_the_model_is_a_few_million_weights_without_pickle(training: dict[str, Any]) -> None:
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Qwen3OmniMoeForConditionalGeneration"]
    assert config["thinker_config"]["text_config"]["num_experts"] == 32
    assert 3e6 < training["parameters"] < 6.5e6
    # Trained anew, it answers a few more or fewer of the 80 of a kind.
    assert min(training["test_exact"].values()) >= 0.9
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 14e6
    assert not [path.name for path in MODEL.iterdir() if path.suffix in {".pt", ".pb", ".pkl", ".bin"}]


def test_modalities_use_different_experts_but_pictures_and_video_nearly_the_same(training: dict[str, Any]) -> None:
    assert len(training["usage"]) == 3
    for layer in training["usage"]:
        assert set(layer["experts_for_nine_tenths"]) == set(MODALITIES)
        apart = dict(layer["distance"])
        assert apart.pop("image-video") > 0.05
        assert min(apart.values()) >= 0.3


def generated(native: Any, asked: dict[str, Any], **settings: Any) -> Any:
    """What the class's own ``generate`` gives; what it takes for the end otherwise is the large model's number."""
    return native.generate(
        **asked,
        thinker_max_new_tokens=16,
        thinker_do_sample=False,
        thinker_eos_token_id=native.config.im_end_token_id,
        **settings,
    )


def test_stock_transformers_loads_every_weight_with_its_experts_in_one_tensor(stock: tuple[Any, Any]) -> None:
    native, notes = stock
    assert not any(notes[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert [layer.mlp.experts.gate_up_proj.shape[0] for layer in native.thinker.model.language_model.layers] == [32] * 3
    assert [layer.mlp.experts.gate_up_proj.shape[0] for layer in native.talker.model.layers] == [16] * 2


@pytest.mark.parametrize("modality", MODALITIES)
def test_its_answers_are_as_good_as_stated(report: Any, training: dict[str, Any], modality: str) -> None:
    found = report.metrics[f"accuracy_{modality}"]
    assert found.details["samples"] == SLICE
    assert found.value >= 100 * (training["test_exact"][modality] - 2 / SLICE)


def test_the_accuracy_of_all_is_that_of_the_modalities(report: Any) -> None:
    assert report.architecture == "qwen3-omni-moe"
    right = [report.metrics[f"accuracy_{modality}"].details["correct"] for modality in MODALITIES]
    assert report.metrics["accuracy"].details == {
        "correct": sum(right),
        "samples": SLICE * len(MODALITIES),
        "without_answer": 0,
    }


@pytest.mark.parametrize("modality", MODALITIES)
def test_its_answers_are_those_of_stock_transformers(
    model: Model, stock: tuple[Any, Any], samples: dict[str, list[Sample]], modality: str
) -> None:
    for sample in samples[modality][:3]:
        asked = inputs(model, sample)
        ids = generated(stock[0], asked, return_audio=False)[0, asked["input_ids"].shape[1] :].tolist()
        assert predict(model, sample).tokens == tuple(map(str, ids)), sample.key


def test_an_answer_ends_with_the_end_of_the_turn(model: Model, samples: dict[str, list[Sample]]) -> None:
    end = model.native.config.im_end_token_id
    assert model.processor.tokenizer.convert_ids_to_tokens(end) == "<|im_end|>"
    found = predict(model, samples["text"][0])
    assert found.text == samples["text"][0].text
    assert found.tokens.index(str(end)) == len(found.tokens) - 1


def said(model: Model, sample: Sample) -> tuple[Speech, int]:
    return speak(model, sample, most_frames=64), len(predict(model, sample).tokens) - 1


@pytest.mark.parametrize("modality", MODALITIES)
def test_it_says_three_frames_for_every_token_and_ends(
    model: Model, samples: dict[str, list[Sample]], modality: str
) -> None:
    for sample in samples[modality][:2]:
        speech, tokens = said(model, sample)
        assert speech.text == sample.text, sample.key
        assert len(speech.frames) == FRAMES * tokens > 0, sample.key
        assert not speech.runaway, sample.key


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")
def test_stock_transformers_makes_as_long_a_sound(
    model: Model, stock: tuple[Any, Any], samples: dict[str, list[Sample]]
) -> None:
    asked = inputs(model, samples["text"][0])
    _, wave = generated(stock[0], asked, talker_max_new_tokens=64, talker_do_sample=False)
    assert wave.shape[-1] == len(said(model, samples["text"][0])[0].waveform)


@pytest.mark.parametrize(("logit", "told"), [(1e4, "says nothing"), (-1e4, "never comes to an end")])
def test_the_script_tells_of_an_untrained_talker(
    model: Model, samples: dict[str, list[Sample]], monkeypatch: Any, capsys: Any, logit: float, told: str
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    measure, end = importlib.import_module("omni_measure"), model.native.config.talker_config.codec_eos_token_id

    def spoil(_: Any, __: Any, logits: Any) -> None:
        logits[..., end] = logit

    hook = model.native.talker.codec_head.register_forward_hook(spoil)
    try:
        assert measure.speech_share(model, samples["text"][:1]) == 0
    finally:
        hook.remove()
    assert told in capsys.readouterr().out


def test_the_script_explains_itself(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    script = importlib.import_module("train_tiny_omni")
    monkeypatch.setattr(sys, "argv", ["train_tiny_omni.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        script.main()
    assert "usage:" in capsys.readouterr().out
    written = (MODEL / "README.md").read_text(encoding="utf-8")
    start, end = "<!-- table: experts -->\n", "<!-- end -->"
    before, rest = written.split(start)
    measured, after = rest.split(end)
    assert f"{before}{start}{end}{after}" == script.README
    assert "all but two by `frequency`" in measured


@pytest.mark.parametrize(("keep", "lost"), [(16, 5), (2, 30)])
def test_its_experts_matter(keep: int, lost: float, training: dict[str, Any]) -> None:
    pruned = sottovoce.load(MODEL)
    recipe = {"steps": [{"step": "prune_experts", "keep": keep, "saliency": "frequency"}]}
    sottovoce.compress(pruned, recipe, sottovoce.read_samples(DATA / "calibration.jsonl"))
    text = [sample for sample in sottovoce.read_samples(DATA / "test.jsonl") if sample.modality == "text"]
    right = sum(predict(pruned, sample).text == sample.text for sample in text)
    assert 100 * right / len(text) <= 100 * training["test_exact"]["text"] - lost


def test_four_bits_divide_the_widths_of_its_experts_both_ways() -> None:
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    for part in ("thinker", "talker"):
        text = config[f"{part}_config"]["text_config"]
        assert text["hidden_size"] % 32 == text["moe_intermediate_size"] % 32 == 0


def test_facts_of_the_test_were_not_calibrated_on() -> None:
    asked = {
        split: {part["text"] for part in parts(split) if part.get("text", "").startswith("find:")}
        for split in ("test", "calibration")
    }
    assert len(asked["test"]) >= 20
    assert len(asked["calibration"]) >= 5
    assert not asked["test"] & asked["calibration"]
