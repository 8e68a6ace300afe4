"""Digests (sha256) of the files of a directory, which reveal a flipped bit that safetensors does not notice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sottovoce.checkpoint.model_class import DESCRIPTION
from sottovoce.checkpoint.plain_data import parse_json
from sottovoce.checkpoint.safe_config import contained_path, read_config
from sottovoce.errors import CheckpointError, SourceError
from sottovoce.report import COMPRESSION_FILE

_READ = re.compile(r".+\.(json|ya?ml|jinja|model|mvn)|(vocab|merges|tokens)\b.*|(seg|jieba)_.*dict\w*", re.IGNORECASE)
_WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|pb)|.+\.(safetensors|bin)\.index\.json", re.IGNORECASE)
"""Names of weight files; those above are of other files that a library may read without being told."""
_LARGEST_TEXT, _LARGEST_HEADER = 1_000_000_000, 100_000_000
"""Most bytes of a configuration or a vocabulary, and of the header of a safetensors file."""
_LARGE = 32_000_000
"""Bytes of a weights file from which its digest is computed while it is loaded."""
_PIECE = 8_000_000
"""Bytes that are hashed at once: between two pieces another thread may keep this one waiting for 5 ms."""
_FIRST = "model.safetensors"
"""Weights file that libraries prefer to all others."""


def digests(directory: Path) -> dict[str, str]:
    """Return the sha256 of every file below ``directory``, by relative path."""
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


@contextlib.contextmanager
def verified_meanwhile(directory: Path, expected: Mapping[str, str]) -> Iterator[None]:
    """Compare files with their digests as :func:`verify` does; large weights meanwhile, as the block loads them.

    Raises:
        CheckpointError: A file is missing or differs, whatever the block made of it.
    """
    large = {name: digest for name, digest in expected.items() if _is_large(directory, name)}
    verify(directory, {name: digest for name, digest in expected.items() if name not in large})
    with ThreadPoolExecutor(1, thread_name_prefix="digests") as thread:
        verification = thread.submit(verify, directory, large)
        try:
            yield
        except Exception:
            # An error of the block is that of a damaged file, where one is damaged.
            verification.result()
            raise
        verification.result()


def _is_large(directory: Path, name: str) -> bool:
    path = contained_path(directory, name, "the digest of")
    return path.suffix == ".safetensors" and path.is_file() and path.stat().st_size >= _LARGE and _has_its_size(path)


def check_listed(directory: Path, manifest: Mapping[str, str]) -> None:
    """Check that every file that a library would read is listed with its digest.

    Args:
        directory: Directory of a compressed model.
        manifest: The digests of its files, by name.

    Raises:
        SourceError: A file is not listed; names up to three.
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
            f"{directory}: {COMPRESSION_FILE} does not list {listed}{more}, which would be read; remove it"
        )


def _would_be_read(path: Path, manifest: Mapping[str, str]) -> bool:
    if _WEIGHTS.fullmatch(path.name):
        return _FIRST not in manifest
    if path.name == DESCRIPTION:
        # ModelScope adds one to every model; it matters only if it names files.
        return "file_path_metas" in read_config(path)
    return _READ.fullmatch(path.name) is not None


def differences(directory: Path, expected: Mapping[str, str]) -> dict[str, str]:
    """Return the files that are missing or have changed, by name, with the problem.

    Raises:
        SourceError: A name leaves the directory.
    """
    problems = {}
    for name, digest in expected.items():
        path = contained_path(directory, name, "the digest of")
        if not path.is_file():
            problems[name] = "is missing"
        elif not _has_its_size(path) or digest_of(path) != digest:
            problems[name] = "has changed since it was written"
    return problems


def _has_its_size(path: Path) -> bool:
    """Return true if a file's size is plausible, so that a huge sparse file is not read."""
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
    """Read the digests in a model's report, by file name; ``None`` without a report.

    Raises:
        SourceError: The report is damaged.
    """
    path = contained_path(directory, COMPRESSION_FILE)
    if not path.is_file():
        return None
    try:
        files = parse_json(path.read_text(encoding="utf-8"))["files"]
        if not all(isinstance(digest, str) for digest in files.values()):
            raise TypeError("a digest is not text")
        if not files:
            raise ValueError("it lists no files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path}: damaged ({error}); fetch or make the model again") from None
    return dict(files)


def digest_of(path: Path) -> str:
    """Return the sha256 of a file."""
    digest, piece = hashlib.sha256(), bytearray(_PIECE)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(memoryview(piece)[:count])
    return digest.hexdigest()
