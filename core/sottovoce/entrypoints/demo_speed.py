"""Speed at a real model's shapes, for the demonstration: float and compressed take turns, with random weights."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.engines import Engine
from sottovoce.entrypoints import compress, demo_peer, load, paired_timing, save
from sottovoce.entrypoints.demo_peer import Peer
from sottovoce.entrypoints.evaluate import prepare_timed
from sottovoce.errors import SottovoceError
from sottovoce.report import number_format
from sottovoce.report.number_format import counted
from sottovoce.samples import Sample, Samples
from sottovoce.system.audio import SAMPLE_RATE, read_audio
from sottovoce.text.plain_text import one_line

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
    peer: Peer | str | None = None
    """Another library's compressed model, or the reason that it was left out."""
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
            f"x {self.ratio['median']:.2f} ({low:.2f}-{high:.2f}) of the time, "
            f"{counted(self.ratio['rounds'], 'round')} by turns",
            *([self.peer.line() if isinstance(self.peer, Peer) else self.peer] if self.peer else []),
        ]


def measure(
    settings: Mapping[str, Any], folder: Path, sample: Sample, recipe: str, note: Callable[[str], None]
) -> Speed | str:
    """Write the model, compress it, and time both; return the reason in a sentence where this is left out.

    Args:
        settings: ``script`` that writes the model to a directory, relative to ``folder``; ``label``; ``seconds`` of
            audio to recognize; and, for another library's model beside ours, ``peer`` (see :func:`demo_peer.write`).
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
        large, small, other = (Path(name) / folder for folder in ("large", "small", "peer"))
        note(f"write {settings['label']} with random weights, and compress it")
        if reason := demo_peer.run_script(script, large):
            return f"{settings['label']} is left out: {reason}"
        model = load.load(large)
        compress.compress(model, recipe)
        save.save(model, small)
        del model
        engine = _write_peer(settings.get("peer"), folder, large, other, note)
        return _timed(settings, (large, small, other), engine, sample, note)


def _write_peer(
    settings: Mapping[str, Any] | None, folder: Path, large: Path, directory: Path, note: Callable[[str], None]
) -> Engine | str | None:
    if settings is None:
        return None
    note(f"write {settings['label']}, where it is installed")
    return demo_peer.write(settings, folder, large, directory)


def _timed(
    settings: Mapping[str, Any],
    directories: tuple[Path, Path, Path],
    engine: Engine | str | None,
    sample: Sample,
    note: Callable[[str], None],
) -> Speed:
    """Time the float model, the compressed one and the peer, which lie in ``directories``."""
    large, small, other = directories
    seconds = float(settings["seconds"])
    samples = Samples((Sample(key="long", audio=_repeated(sample, seconds)),))
    note(f"time them by turns on {seconds:.0f} s of audio")
    with contextlib.ExitStack() as stack:
        timed = [
            stack.enter_context(paired_timing.isolated(prepare_timed, os.fspath(path), samples, {}))
            for path in (large, small)
        ]
        peer: Peer | str | None = engine if isinstance(engine, str) else None
        if isinstance(engine, Engine):
            try:
                timed.append(stack.enter_context(paired_timing.isolated(demo_peer.prepare, engine, other, samples)))
            except (SottovoceError, RuntimeError) as error:
                peer = f"{settings['peer']['label']} is left out: {engine.name}: {one_line(str(error))}"
        meter = paired_timing.OtherWork()
        before, after, *rest = ([sum(round) for round in rounds] for rounds in paired_timing.take_turns(*timed))
        others = meter.cores()
    ratios = _ratios(after, before)
    if rest and isinstance(engine, Engine):
        peer = Peer(
            label=settings["peer"]["label"],
            size_bytes=_weights(other),
            engine=engine.name,
            seconds=paired_timing.spread(rest[0]),
            ratio=paired_timing.spread(_ratios(after, rest[0])),
        )
    return Speed(
        label=settings["label"],
        before_bytes=_weights(large),
        after_bytes=_weights(small),
        audio_seconds=seconds,
        before=paired_timing.spread(before),
        after=paired_timing.spread(after),
        ratio=paired_timing.spread(ratios),
        peer=peer,
        busy=paired_timing.busy(ratios, others, os.cpu_count() or 1),
    )


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [first / second for first, second in zip(ours, theirs, strict=True)]


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
        return f"the machine is busy: other processes use {used:.1f} of its {counted(cores, 'core')}"
    return None


def _repeated(sample: Sample, seconds: float) -> Any:
    import numpy as np

    audio = read_audio(sample.audio, name=f"sample {sample.key!r}")
    return np.resize(audio, round(seconds * SAMPLE_RATE)).astype(np.float32)


def _weights(directory: Path) -> int:
    files = [path for path in directory.iterdir() if path.suffix in (".safetensors", ".onnx")]
    if not files:
        raise SottovoceError(f"{directory}: holds no weights")
    return sum(path.stat().st_size for path in files)
