"""The bundled aligner finds the words of voices it never heard, and the manifests say where they really are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sottovoce
from examples.scripts import help_of
from sottovoce import read_samples

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data" / "mandarin-commands"
MODEL = EXAMPLES / "models" / "tiny-aligner"
SPLITS = ("train", "dev", "calibration", "test")


def rows(split: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("split", SPLITS)
def test_words_spell_the_target_in_order_and_within_the_audio(split: str) -> None:
    for sample, row in zip(read_samples(DATA / f"{split}.jsonl"), rows(split), strict=True):
        assert sample.language == "zh"
        assert "".join(word["text"] for word in sample.words) == sample.text
        seconds = row["end"] - row["start"] if "start" in row else sample.seconds
        times = [time for word in sample.words for time in (word["start"], word["end"])]
        assert times[0] >= 0, sample.key
        assert times[-1] <= seconds + 1e-9, sample.key
        assert all(word["start"] < word["end"] for word in sample.words), sample.key
        assert times == sorted(times), sample.key


def test_the_voices_of_the_test_were_never_trained_on() -> None:
    assert not {row["voice"] for row in rows("test")} & {row["voice"] for row in (*rows("train"), *rows("dev"))}


def test_the_model_is_a_few_million_weights_without_pickle() -> None:
    training = json.loads((MODEL / "training.json").read_text(encoding="utf-8"))
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Qwen3ASRForTokenClassification"]
    assert 2e6 < training["parameters"] < 5e6
    assert training["minutes"] <= 40
    assert training["test_mean_shift_ms"] <= 80
    assert (MODEL / "model.safetensors").stat().st_size <= 14e6
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 15e6
    assert not [path.name for path in MODEL.iterdir() if path.suffix in {".pt", ".pb", ".pkl", ".bin"}]


def test_its_mean_shift_is_measured_here() -> None:
    model = sottovoce.load(MODEL)
    assert model.architecture.name == "qwen3-forced-aligner"
    shifts = []
    for sample in read_samples(DATA / "test.jsonl"):
        found = model.architecture.runner.predict(model, sample).timestamps
        for times, word in zip(found, sample.words, strict=True):
            shifts += [abs(times[0] - word["start"]), abs(times[1] - word["end"])]
    mean = 1000 * sum(shifts) / len(shifts)
    training = json.loads((MODEL / "training.json").read_text(encoding="utf-8"))
    assert mean <= 80
    assert mean == pytest.approx(training["test_mean_shift_ms"], abs=2)


@pytest.mark.parametrize("script", ["word_times.py", "train_tiny_aligner.py"])
def test_the_scripts_explain_themselves(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "usage:" in help_of(script, monkeypatch, capsys)
