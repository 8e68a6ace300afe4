"""The sha256 of every file of a directory: safetensors does not notice a flipped bit, this does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from sottovoce.checkpoint.guard import contained_path
from sottovoce.errors import CheckpointError, SourceError
from sottovoce.report import COMPRESSION_FILE


def digests(directory: Path) -> dict[str, str]:
    """The sha256 of every file below ``directory``, by relative path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): digest_of(path) for path in files}


def verify(directory: Path, expected: Mapping[str, str]) -> None:
    """Compare the files of ``directory`` with their digests.

    Raises:
        CheckpointError: A file is missing or differs; names all such files.
    """
    if problems := differences(directory, expected):
        listed = ", ".join(f"{name} {problem}" for name, problem in problems.items())
        raise CheckpointError(f"{directory}: damaged: {listed}; fetch or make it again")


def differences(directory: Path, expected: Mapping[str, str]) -> dict[str, str]:
    """The files that are missing or not what was written, by name, with what is wrong.

    Raises:
        SourceError: A name leaves the directory.
    """
    problems = {}
    for name, digest in expected.items():
        path = contained_path(directory, name, "the digest of")
        if not path.is_file():
            problems[name] = "is missing"
        elif digest_of(path) != digest:
            problems[name] = "is not what was written"
    return problems


def read_manifest(directory: Path) -> dict[str, str] | None:
    """The digests that were written with a model, by file name; ``None`` where there are none.

    Raises:
        SourceError: They are not to be understood.
    """
    path = contained_path(directory, COMPRESSION_FILE)
    if not path.is_file():
        return None
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        if not all(isinstance(digest, str) for digest in files.values()):
            raise TypeError("a digest is no text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path}: damaged ({error}); fetch or make the model again") from None
    return dict(files)


def digest_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
