"""Reader of Kaldi's data directories: ``wav.scp``, ``text`` and ``segments``, as the fields of samples."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sottovoce.errors import SamplesError
from sottovoce.samples.manifests import find_file, read_lines, shown
from sottovoce.system.audio import AudioSegment


def read_kaldi(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place (file and line) of every utterance, and the fields of its sample.

    Args:
        path: A ``wav.scp``. In the same directory, ``text`` has the transcripts, and ``segments``, if it exists, cuts
            the recordings into utterances.

    Raises:
        SamplesError: A line is broken, a key occurs twice, a file is missing, or no transcript belongs to an utterance;
            the message names file and line.
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
    """Return the place (file and line) and the rest of the line, by key."""
    entries: dict[str, tuple[str, str]] = {}
    for number, line in read_lines(path) if required or path.is_file() else ():
        where = f"{path}:{number}"
        # Kaldi divides by spaces and tabs; other white space belongs to the transcript.
        key, *rest = re.split(r"[ \t]+", line, maxsplit=1)
        if what and not rest:
            raise SamplesError(f"{where}: a line must be a key and {what}")
        if key in entries:
            raise SamplesError(f"{where}: the key {shown(key)!r} occurs twice")
        entries[key] = (where, rest[0] if rest else "")
    return entries


def _file(source: str, path: Path, where: str) -> Path:
    if source.endswith("|") or source.startswith("|"):
        raise SamplesError(
            f"{where}: {shown(source)!r} is a command, which is not run; write its audio to a file and name that"
        )
    if re.search(r"\.ark:\d+$", source):
        raise SamplesError(f"{where}: {shown(source)!r} is a place in an archive; write its audio to a file, name that")
    return find_file(source, "audio", path.parent, where)


def _segments(path: Path, files: dict[str, tuple[str, Path]]) -> dict[str, tuple[str, AudioSegment]]:
    """Return the place and the audio segment by utterance; an end below 0 is the recording's end."""
    segments: dict[str, tuple[str, AudioSegment]] = {}
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
        segments[key] = (where, AudioSegment(files[recording][1], start, None if end < 0 else end))
    return segments
