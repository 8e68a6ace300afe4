"""The bundled omni model answers about voices, pictures and strings it was never given, and says its answers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data" / "omni-tasks"
MODEL = EXAMPLES / "models" / "tiny-omni"
MODALITIES = ("text", "audio", "image", "video")
SLICE = 24
needs_pictures = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("PIL", "torchvision")),
    reason="the omni processor needs pillow and torchvision",
)
# The examples import each other by name; torchvision may need their help to be imported at all.
MEASURE = """
import json, sys
from pathlib import Path
import omni_torchvision
omni_torchvision.allow_import()
import torch
from transformers import Qwen3OmniMoeForConditionalGeneration, Qwen3OmniMoeProcessor
from omni_data import read_rows
from omni_measure import answer, speech_is_right
torch.set_num_threads(1)
folder, data, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
model, notes = Qwen3OmniMoeForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
processor = Qwen3OmniMoeProcessor.from_pretrained(folder)
right, said = {}, {}
for row in read_rows(data / "test.jsonl"):
    done = right.setdefault(row["modality"], [])
    if len(done) < count:
        done.append(answer(model, processor, row) == row["target"])
        if len(done) <= 2:
            said[row["key"]] = speech_is_right(model, processor, row)
problems = {name: sorted(map(str, notes[name])) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")}
print(json.dumps({"right": right, "said": said, "problems": problems}))
"""


def rows(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def parts(split: str) -> list[dict[str, Any]]:
    return [part for row in rows(split) for message in row["messages"] for part in message["content"]]


@pytest.fixture(scope="module")
def training() -> dict[str, Any]:
    return json.loads((MODEL / "training.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    path = os.pathsep.join([str(EXAMPLES), *sys.path])
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(MODEL), str(DATA), str(SLICE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path})
    return json.loads(done.stdout.splitlines()[-1])


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
    assert min(training["test_exact"].values()) >= 0.95
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 14e6
    assert not [path.name for path in MODEL.iterdir() if path.suffix in {".pt", ".pb", ".pkl", ".bin"}]


def test_modalities_use_different_experts_but_pictures_and_video_nearly_the_same(training: dict[str, Any]) -> None:
    assert len(training["usage"]) == 3
    for layer in training["usage"]:
        assert set(layer["experts_for_nine_tenths"]) == set(MODALITIES)
        apart = dict(layer["distance"])
        assert apart.pop("image-video") > 0.05
        assert min(apart.values()) >= 0.3


@needs_pictures
def test_stock_transformers_loads_every_weight(measured: dict[str, Any]) -> None:
    assert measured["problems"] == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}


@needs_pictures
@pytest.mark.parametrize("modality", MODALITIES)
def test_its_answers_are_as_good_as_stated(measured: dict[str, Any], training: dict[str, Any], modality: str) -> None:
    right = measured["right"][modality]
    assert len(right) == SLICE
    assert sum(right) / SLICE >= training["test_exact"][modality] - 2 / SLICE


@needs_pictures
def test_it_says_three_frames_for_every_token_and_ends(measured: dict[str, Any]) -> None:
    assert len(measured["said"]) == 2 * len(MODALITIES)
    assert all(measured["said"].values())


@needs_pictures
def test_the_script_explains_itself() -> None:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / "train_tiny_omni.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout
