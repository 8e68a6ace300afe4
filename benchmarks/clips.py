"""Calibration clips of any length, joined from the bundled speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BUNDLED = Path(__file__).parents[1] / "examples" / "data" / "mandarin-commands"
RATE = 16000


def write_clips(directory: Path, count: int, seconds: float) -> Path:
    """Write clips and their manifest, which is returned.

    Args:
        directory: Made when it is missing.
        count: Number of clips.
        seconds: Length of every clip.
    """
    import numpy
    import soundfile

    rows = [json.loads(line) for line in (BUNDLED / "calibration.jsonl").read_text(encoding="utf-8").splitlines()]
    directory.mkdir(parents=True, exist_ok=True)
    lines, number = [], 0
    for clip in range(count):
        parts: list[Any] = []
        text = ""
        while sum(len(part) for part in parts) < seconds * RATE:
            row = rows[number % len(rows)]
            parts.append(soundfile.read(BUNDLED / row["source"], dtype="float32")[0])
            text += row["target"]
            number += 1
        audio = numpy.concatenate(parts)[: round(seconds * RATE)]
        soundfile.write(directory / f"{clip}.wav", audio, RATE)
        lines.append({"key": str(clip), "source": f"{clip}.wav", "target": text, "language": "Chinese"})
    path = directory / "calibration.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path
