"""The bundled model and data are what their papers say, and the scripts that made them start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples.scripts import help_of
from sottovoce import read_samples

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data" / "mandarin-commands"
MODEL = EXAMPLES / "models" / "tiny-paraformer"


def rows(split: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_voices_and_sentences_of_the_test_were_never_trained_on() -> None:
    train, dev, test = rows("train"), rows("dev"), rows("test")
    assert not {row["voice"] for row in test} & {row["voice"] for row in (*train, *dev)}
    assert not {row["target"] for row in test} & {row["target"] for row in train}


def test_the_test_set_is_as_large_and_as_hard_as_promised() -> None:
    test = read_samples(DATA / "test.jsonl")
    assert len(test) >= 120
    assert 30 <= len({char for row in rows("train") for char in str(row["target"])}) <= 60
    assert sum(row["snr_db"] is not None for row in rows("test")) >= 60
    assert sum(row["rt60"] is not None for row in rows("test")) >= 30


def test_the_model_is_a_few_million_weights_without_pickle() -> None:
    training = json.loads((MODEL / "training.json").read_text(encoding="utf-8"))
    assert 1e6 < training["parameters"] < 1e7
    assert training["minutes"] <= 40
    assert training["test_cer"] <= 0.05
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 40e6
    assert not [path.name for path in MODEL.iterdir() if path.suffix in {".pt", ".pb", ".pkl", ".bin"}]


def test_its_error_rate_is_measured_here() -> None:
    import sottovoce

    report = sottovoce.evaluate(MODEL, DATA / "test.jsonl")
    assert report.metrics["cer"].value is not None
    assert report.metrics["cer"].value <= 5.0
    assert report.metrics["cer"].details["without_hypothesis"] == 0


@pytest.mark.parametrize("script", ["make_speech.py", "train_tiny_paraformer.py"])
def test_the_scripts_explain_themselves(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "usage:" in help_of(script, monkeypatch, capsys)


def test_without_espeak_the_script_says_so(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "make_speech.py"), "--output", str(tmp_path / "speech")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "espeak-ng" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
