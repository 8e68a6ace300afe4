"""Files of a directory that are published: those that were written with the model, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sottovoce.checkpoint.machine_paths import machine_roots, refused_paths
from sottovoce.checkpoint.manifest import differences, read_manifest
from sottovoce.checkpoint.safe_config import contained_path
from sottovoce.errors import PublishError, UsageError
from sottovoce.network.tokens import own_tokens
from sottovoce.network.wording import listed
from sottovoce.report import COMPRESSION_FILE
from sottovoce_hub.destination import File
from sottovoce_hub.runnable import runs
from sottovoce_hub.secret_scan import find_secret

LARGEST_TEXT = 20_000_000
"""Bytes; longer files are weights, and are not searched for paths of a machine."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Files of a directory, by what becomes of them."""

    files: tuple[File, ...]
    left_out: tuple[str, ...]
    """Other files, which stay."""


def read_contents(directory: Path) -> Contents:
    """Gather what was written with a compressed model, and compare it with its digests.

    Raises:
        UsageError: Sottovoce did not write the directory.
        PublishError: A file is not what was written, holds a secret or a path of a machine, or would run where it is
            loaded.
    """
    manifest = read_manifest(directory) if directory.is_dir() else None
    if manifest is None:
        raise UsageError(
            f"{directory}: there is no {COMPRESSION_FILE}; what is published is a directory that compress wrote"
        )
    if problems := differences(directory, manifest):
        said = listed(f"{name} {problem}" for name, problem in problems.items())
        raise PublishError(f"{directory}: not published: {said}; compress the model again")
    files = [File.of(name, contained_path(directory, name), digest) for name, digest in sorted(manifest.items())]
    files.append(File.of(COMPRESSION_FILE, directory / COMPRESSION_FILE))
    _refuse_unfit(directory, files)
    refuse_secrets(directory, files)
    refuse_paths(directory, files)
    names = {file.name for file in files}
    return Contents(files=tuple(files), left_out=tuple(sorted(set(_names(directory)) - names)))


def _names(directory: Path) -> Iterable[str]:
    return (path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())


def _refuse_unfit(directory: Path, files: Iterable[File]) -> None:
    for file in files:
        if (kind := runs(file.name, _beginning(file))) is not None:
            raise PublishError(f"{directory}: not published: {file.name} is {kind}, which could run where it is loaded")
        if any(part.startswith(".") for part in file.name.split("/")):
            raise PublishError(f"{directory}: not published: {file.name} is a hidden file, which belongs to no model")


def refuse_secrets(directory: Path, files: Iterable[File]) -> None:
    """Refuse to publish what holds a token, a key or a password.

    Raises:
        PublishError: A file does; names it, the line and the kind, and never the secret.
    """
    tokens = own_tokens()
    for file in files:
        if (met := find_secret(file.content, tokens)) is not None:
            secret, line = met
            place = f"{file.name}, line {line}," if line else file.name
            raise PublishError(f"{directory}: not published: {place} holds {secret}; take it out, and compress again")


def _beginning(file: File) -> bytes:
    if isinstance(file.content, bytes):
        return file.content
    with file.content.open("rb") as stream:
        return stream.read(LARGEST_TEXT)


def refuse_paths(directory: Path, files: Iterable[File]) -> None:
    """Refuse to publish where a file tells of the machine that it was made on.

    Raises:
        PublishError: One does; names the file, the key and the path.
    """
    small = (file for file in files if file.size <= LARGEST_TEXT)
    contents = ((file.name, _content(file)) for file in small)
    if problem := refused_paths(contents, machine_roots(directory.parent)):
        raise PublishError(
            f"{directory}: not published: {problem}; take it out of the model's files, and compress again"
        )


def _content(file: File) -> bytes:
    return file.content if isinstance(file.content, bytes) else file.content.read_bytes()
