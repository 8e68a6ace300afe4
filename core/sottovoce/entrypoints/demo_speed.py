"""Speed at a real model's shapes, for the demonstration: float and compressed take turns, with random weights."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.entrypoints import compress, load, paired_timing, save
from sottovoce.entrypoints.evaluate import prepare_timed
from sottovoce.errors import SottovoceError
from sottovoce.report import number_format
from sottovoce.samples import Sample, Samples
from sottovoce.system.audio import SAMPLE_RATE, read_audio
from sottovoce.system.interpreter import python_command, python_environment

NEEDED = 4_000_000_000
"""Bytes of memory and of disk that writing and compressing the model take."""
_WATCHED = 1.0
"""Seconds for which the machine is watched before it is called quiet."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Sizes and times of a model with real shapes and random weights."""

    label: str
    before_bytes: int
    after_bytes: int
    audio_seconds: float
    before: Mapping[str, Any]
    """Median and quartiles of the seconds that the float model took."""
    after: Mapping[str, Any]
    """Those of the compressed model."""
    ratio: Mapping[str, Any]
    """Those of the compressed model's seconds over the float one's, round by round."""
    busy: str | None = None
    """Reason that the times mean nothing, if the machine was not quiet meanwhile."""

    def lines(self) -> list[str]:
        """Return what was measured, in sentences."""
        size = f"{number_format.size(self.before_bytes)} -> {number_format.size(self.after_bytes)}"
        head = f"{self.label} (real shapes, random weights): {size}"
        if self.busy:
            return [head, f"its times are left out: {self.busy}"]
        low, high = self.ratio["quartiles"]
        before, after = self.before["median"], self.after["median"]
        return [
            head,
            f"{self.audio_seconds:.0f} s of audio: {before:.2f} s in float, {after:.2f} s compressed, "
            f"x {self.ratio['median']:.2f} ({low:.2f}-{high:.2f}) of the time, {self.ratio['rounds']} rounds by turns",
        ]


def measure(
    settings: Mapping[str, Any], folder: Path, sample: Sample, recipe: str, note: Callable[[str], None]
) -> Speed | str:
    """Write the model, compress it, and time both; return the reason in a sentence where this is left out.

    Args:
        settings: ``script`` that writes the model to a directory, relative to ``folder``; ``label``; and ``seconds`` of
            audio to recognize.
        folder: Folder of the demonstration's settings.
        sample: A sample whose audio is repeated to that length.
        recipe: The recipe.
        note: Called with what is done next.
    """
    script = folder / settings["script"]
    if not script.is_file():
        return f"{settings['label']} is left out: {script.name} is not there"
    if reason := _obstacle():
        return f"{settings['label']} is left out: {reason}"
    with tempfile.TemporaryDirectory(prefix="sottovoce-demo-") as name:
        large, small = Path(name) / "large", Path(name) / "small"
        note(f"write {settings['label']} with random weights, and compress it")
        command = python_command(str(script), str(large))
        # The script imports what lies beside it.
        environment = python_environment(PYTHONWARNINGS="ignore", PYTHONPATH=str(script.parent.resolve()))
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            return f"{settings['label']} is left out: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        model = load.load(large)
        compress.compress(model, recipe)
        save.save(model, small)
        del model
        return _timed(settings, large, small, sample, note)


def _timed(settings: Mapping[str, Any], large: Path, small: Path, sample: Sample, note: Callable[[str], None]) -> Speed:
    seconds = float(settings["seconds"])
    samples = Samples((Sample(key="long", audio=_repeated(sample, seconds)),))
    note(f"time both by turns on {seconds:.0f} s of audio")
    with contextlib.ExitStack() as stack:
        timed = [
            stack.enter_context(paired_timing.isolated(prepare_timed, str(path), samples, {}))
            for path in (large, small)
        ]
        meter = paired_timing.OtherWork()
        before, after = ([sum(round) for round in rounds] for rounds in paired_timing.take_turns(*timed))
        others = meter.cores()
    ratios = [second / first for first, second in zip(before, after, strict=True)]
    return Speed(
        label=settings["label"],
        before_bytes=_weights(large),
        after_bytes=_weights(small),
        audio_seconds=seconds,
        before=paired_timing.spread(before),
        after=paired_timing.spread(after),
        ratio=paired_timing.spread(ratios),
        busy=paired_timing.busy(ratios, others, os.cpu_count() or 1),
    )


def _obstacle() -> str | None:
    """Return why the large model cannot be measured now."""
    import psutil

    if psutil.virtual_memory().available < NEEDED:
        return f"it takes {number_format.size(NEEDED)} of memory, and less is free"
    if shutil.disk_usage(tempfile.gettempdir()).free < NEEDED:
        return f"it takes {number_format.size(NEEDED)} of disk, and less is free"
    meter = paired_timing.OtherWork()
    time.sleep(_WATCHED)
    cores, used = os.cpu_count() or 1, meter.cores()
    if used > paired_timing.BUSY * cores:
        return f"the machine is busy: other processes use {used:.1f} of its {cores} cores"
    return None


def _repeated(sample: Sample, seconds: float) -> Any:
    import numpy as np

    audio = read_audio(sample.audio, name=f"sample {sample.key!r}")
    return np.resize(audio, round(seconds * SAMPLE_RATE)).astype(np.float32)


def _weights(directory: Path) -> int:
    files = [path for path in directory.iterdir() if path.suffix == ".safetensors"]
    if not files:
        raise SottovoceError(f"{directory}: holds no weights")
    return sum(path.stat().st_size for path in files)
