"""Kaldi's data directories: ``wav.scp``, ``text`` and ``segments``, as the fields of samples."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sottovoce.data.manifests import find_file, read_lines, shown
from sottovoce.errors import SamplesError
from sottovoce.system.audio import AudioSegment


def read_kaldi(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each utterance stands, and the fields of its sample.

    Args:
        path: A ``wav.scp``. Beside it, ``text`` gives the transcripts, and ``segments``, where it is, cuts the
            recordings into utterances.

    Raises:
        SamplesError: A line is broken, a key stands twice, a file is missing, or no transcript is of any utterance; the
            message names file and line.
    """
    files = {key: (where, _file(rest, path, where)) for key, (where, rest) in _table(path, "a path").items()}
    texts = _table(path.with_name("text"), "", required=False)
    cuts = path.with_name("segments")
    audio: dict[str, tuple[str, Any]] = _segments(cuts, files) if cuts.is_file() else dict(files)
    if texts and not texts.keys() & audio.keys():
        raise SamplesError(
            f"{path.with_name('text')}: has no transcript of any utterance, such as {next(iter(audio))!r}"
        )
    for key, (where, source) in audio.items():
        yield where, {"key": key, "audio": source, "text": texts[key][1] if key in texts else None}


def _table(path: Path, what: str, *, required: bool = True) -> dict[str, tuple[str, str]]:
    """By key, where it stands and what follows it."""
    found: dict[str, tuple[str, str]] = {}
    for number, line in read_lines(path) if required or path.is_file() else ():
        where = f"{path}:{number}"
        # Kaldi divides by spaces and tabs; others are part of what is said.
        key, *rest = re.split(r"[ \t]+", line, maxsplit=1)
        if what and not rest:
            raise SamplesError(f"{where}: a line must be a key and {what}")
        if key in found:
            raise SamplesError(f"{where}: the key {shown(key)!r} stands twice")
        found[key] = (where, rest[0] if rest else "")
    return found


def _file(source: str, path: Path, where: str) -> Path:
    if source.endswith("|") or source.startswith("|"):
        raise SamplesError(
            f"{where}: {shown(source)!r} is a command, and none is run; write its audio to a file and name that"
        )
    if re.search(r"\.ark:\d+$", source):
        raise SamplesError(f"{where}: {shown(source)!r} is a place in an archive; write its audio to a file, name that")
    return find_file(source, "audio", path.parent, where)


def _segments(path: Path, files: dict[str, tuple[str, Path]]) -> dict[str, tuple[str, AudioSegment]]:
    """By utterance, where it stands and its piece of a recording; an end below 0 is the recording's own."""
    found: dict[str, tuple[str, AudioSegment]] = {}
    for key, (where, rest) in _table(path, "a recording with its start and end in seconds").items():
        recording, *times = rest.split()
        try:
            start, end = (float(time) for time in times)
        except ValueError:
            start = end = math.nan
        if not (math.isfinite(start) and math.isfinite(end)) or 0 <= end <= start:
            raise SamplesError(f"{where}: a line must be a key, a recording, and its start and end in seconds")
        if recording not in files:
            raise SamplesError(f"{where}: wav.scp has no recording {shown(recording)!r}")
        found[key] = (where, AudioSegment(files[recording][1], start, None if end < 0 else end))
    return found
