"""Writes tasks as manifests with their media."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import soundfile
from PIL import Image
from tqdm import tqdm

from omni_tasks import MODALITIES, Task, make_task
from sottovoce.training.augmentation import SAMPLE_RATE

CALIBRATION = {"text": 28, "audio": 12, "image": 12, "video": 12}  # more text than anything else, as in most real data
TEST = {"text": 100, "audio": 80, "image": 80, "video": 80}


def make_tasks(split: str, counts: dict[str, int], seed: int) -> list[Task]:
    """Make the tasks of a split, so many of each modality."""
    places = [(modality, number) for modality in MODALITIES for number in range(counts[modality])]
    with ThreadPoolExecutor() as executor:
        results = executor.map(lambda item: make_task(item[0], split, item[1], seed), places)
        return list(tqdm(results, f"{split} tasks", len(places), unit="task"))


def write_media(task: Task, folder: Path) -> dict[str, Any] | None:
    """Write what a task is about and returns it as a part of the message, its paths relative to the folder."""
    if task.speech is not None:
        name = f"audio/{task.key}.flac"
        soundfile.write(folder / name, task.speech, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
        return {"type": "audio", "audio": name}
    names = [f"{task.modality}/{task.key}-{number}.png" for number in range(len(task.frames))]
    for name, frame in zip(names, task.frames, strict=True):
        Image.fromarray(frame).save(folder / name, optimize=True)
    if task.modality == "image":
        return {"type": "image", "image": names[0]}
    return {"type": "video", "video": names} if names else None


def write_split(tasks: Sequence[Task], path: Path) -> None:
    """Write a manifest in JSON Lines and the media beside it."""
    for modality in MODALITIES[1:]:
        (path.parent / modality).mkdir(parents=True, exist_ok=True)
    lines = []
    for task in tasks:
        media = write_media(task, path.parent)
        content = [media] if media else []
        content.append({"type": "text", "text": task.question})
        row = {"key": task.key, "messages": [{"role": "user", "content": content}], "target": task.target}
        lines.append(json.dumps(row | {"modality": task.modality} | task.origin, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def write_data(folder: Path, seed: int) -> None:
    """Make the calibration and test data anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_split(make_tasks("calibration", CALIBRATION, seed), folder / "calibration.jsonl")
    write_split(make_tasks("test", TEST, seed), folder / "test.jsonl")
