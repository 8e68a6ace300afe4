"""The sha256 of every file of a directory: safetensors does not notice a flipped bit, this does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from sottovoce.errors import CheckpointError


def digests(directory: Path) -> dict[str, str]:
    """The sha256 of every file below ``directory``, by relative path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): _digest(path) for path in files}


def verify(directory: Path, expected: Mapping[str, str]) -> None:
    """Compare the files of ``directory`` with their digests.

    Raises:
        CheckpointError: A file is missing or differs; names all such files.
    """
    problems = []
    for name, digest in expected.items():
        path = directory / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif _digest(path) != digest:
            problems.append(f"{name} is not what was written")
    if problems:
        raise CheckpointError(f"{directory}: damaged: {', '.join(problems)}; fetch or make it again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
