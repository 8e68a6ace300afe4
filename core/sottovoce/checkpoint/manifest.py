"""The sha256 of every file of a directory: safetensors does not notice a flipped bit, this does."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from sottovoce.checkpoint.model_class import DESCRIPTION
from sottovoce.checkpoint.plain_data import parse_json
from sottovoce.checkpoint.safe_config import contained_path, read_config
from sottovoce.errors import CheckpointError, SourceError
from sottovoce.report import COMPRESSION_FILE

_READ = re.compile(r".+\.(json|ya?ml|jinja|model|mvn)|(vocab|merges|tokens)\b.*|(seg|jieba)_.*dict\w*", re.IGNORECASE)
_WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|pb)|.+\.(safetensors|bin)\.index\.json", re.IGNORECASE)
"""Names of files that a library may read beside those that are listed."""
_LARGEST_TEXT, _LARGEST_HEADER = 1_000_000_000, 100_000_000
"""Bytes of a configuration or a vocabulary, and of what safetensors files begin with."""
_FIRST = "model.safetensors"
"""What is read before all other weights."""


def digests(directory: Path) -> dict[str, str]:
    """The sha256 of every file below ``directory``, by relative path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): digest_of(path) for path in files}


def verify(directory: Path, expected: Mapping[str, str]) -> None:
    """Compare the files of ``directory`` with their digests.

    Raises:
        CheckpointError: A file is missing or differs; names the first of them.
    """
    if problems := differences(directory, expected):
        listed = ", ".join(f"{name[:60]} {problem}" for name, problem in list(problems.items())[:3])
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{directory}: damaged: {listed}{more}; fetch or make it again")


def check_listed(directory: Path, manifest: Mapping[str, str]) -> None:
    """Look for files that a library would read although nothing says what they have to be.

    Args:
        directory: A compressed model's.
        manifest: The digests of its files, by name.

    Raises:
        SourceError: There are such files; names some.
    """
    strays = []
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(folder, name) for name in files if not name.startswith(".")]
        strays += [path.relative_to(directory).as_posix() for path in paths if _would_be_read(path, manifest)]
    strays = [name for name in strays if name not in manifest and name != COMPRESSION_FILE]
    if strays:
        more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
        listed = ", ".join(sorted(name[:60] for name in strays)[:3])
        raise SourceError(
            f"{directory}: {COMPRESSION_FILE} does not list {listed}{more}, which would be read; take it out of there"
        )


def _would_be_read(path: Path, manifest: Mapping[str, str]) -> bool:
    if _WEIGHTS.fullmatch(path.name):
        return _FIRST not in manifest
    if path.name == DESCRIPTION:
        # ModelScope puts one beside every model; only one that names files leads anywhere.
        return "file_path_metas" in read_config(path)
    return _READ.fullmatch(path.name) is not None


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
        elif not _has_its_size(path) or digest_of(path) != digest:
            problems[name] = "is not what was written"
    return problems


def _has_its_size(path: Path) -> bool:
    """Whether a file is as large as it can be, so that one of holes without end is not read."""
    size = path.stat().st_size
    if path.suffix != ".safetensors":
        return size <= _LARGEST_TEXT or _READ.fullmatch(path.name) is None
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _LARGEST_HEADER)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return size == 8 + length + int(max(ends, default=0))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return False


def read_manifest(directory: Path) -> dict[str, str] | None:
    """The digests that were written with a model, by file name; ``None`` where there are none.

    Raises:
        SourceError: They are not to be understood.
    """
    path = contained_path(directory, COMPRESSION_FILE)
    if not path.is_file():
        return None
    try:
        files = parse_json(path.read_text(encoding="utf-8"))["files"]
        if not all(isinstance(digest, str) for digest in files.values()):
            raise TypeError("a digest is no text")
        if not files:
            raise ValueError("it lists no files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path}: damaged ({error}); fetch or make the model again") from None
    return dict(files)


def digest_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
