"""Files that a visitor takes home."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from sottovoce.transcription.files import FORMATS
from sottovoce.transcription.transcript import Transcript, Word

_KEPT = 900
"""Seconds for which files are kept."""


def contents_of(transcript: Transcript) -> dict[str, str]:
    """Return a transcript in every format, by the formats' names, which are the files' endings."""
    return {name: form.text(transcript) for name, form in FORMATS.items()}


def words_json(text: str, words: Sequence[Word], duration: float) -> str:
    """Return words with their times as JSON."""
    form = {"text": text, "duration": duration, "words": [asdict(word) for word in words]}
    return json.dumps(form, ensure_ascii=False, indent=1) + "\n"


class Downloads:
    """Directory of the files that visitors may take; what is older than a quarter of an hour is removed.

    Args:
        directory: An existing directory of the page alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def files(self, stem: str, contents: Mapping[str, str]) -> list[str]:
        """Write texts by their suffixes, and return the paths."""
        directory = self._new()
        paths = []
        for suffix, content in contents.items():
            path = directory / f"{safe_name(stem)}.{suffix}"
            path.write_text(content, encoding="utf-8")
            paths.append(str(path))
        return paths

    def archive(self, transcripts: Sequence[tuple[str, Transcript]]) -> str:
        """Write one archive with the files of every transcript, by the names of the audio, and return its path."""
        path = self._new() / "transcripts.zip"
        taken: set[str] = set()
        stems = Counter(safe_name(Path(name).stem) for name, _ in transcripts)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, transcript in transcripts:
                stem = safe_name(Path(name).stem)
                # Recordings of one name in two formats keep their endings, which tell them apart.
                stem = unused(stem if stems[stem] == 1 else safe_name(name), taken)
                taken.add(stem)
                for suffix, content in contents_of(transcript).items():
                    archive.writestr(f"{stem}.{suffix}", content)
        return str(path)

    def _new(self) -> Path:
        now = time.time()
        for old in self._directory.glob("files-*"):
            with contextlib.suppress(OSError):
                if now - old.stat().st_mtime > _KEPT:
                    shutil.rmtree(old)
        return Path(tempfile.mkdtemp(dir=self._directory, prefix="files-"))


def unused(stem: str, taken: Collection[str]) -> str:
    """Return a name that is not taken: the name itself, or with a number."""
    names = (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def safe_name(name: str) -> str:
    """Return a name of a file without characters that a system could refuse."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:80] or "audio"
