"""Which files of a directory are published: those that were written with the model, and no others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sottovoce.checkpoint.guard import contained_path
from sottovoce.checkpoint.machine_paths import machine_roots, refused_paths
from sottovoce.checkpoint.manifest import differences, read_manifest
from sottovoce.errors import PublishError, UsageError
from sottovoce.network.wording import listed
from sottovoce.report import COMPRESSION_FILE
from sottovoce_hub.destination import File

CODE_AND_PICKLES = (".py", ".pyc", ".so", ".sh", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".npy", ".npz")
"""Endings of what runs when it is loaded, or could."""

SECRETS = {
    "a Hugging Face token": re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b"),
    "a ModelScope token": re.compile(rb"\bms-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a GitHub token": re.compile(rb"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{40,})\b"),
    "an AWS key": re.compile(rb"\bAKIA[0-9A-Z]{16}\b"),
    "an API key": re.compile(rb"\bsk-[A-Za-z0-9_-]{32,}\b"),
}
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN")
LARGEST_TEXT = 20_000_000
"""Bytes; longer files are weights, and are not searched for secrets."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A directory, looked through."""

    files: tuple[File, ...]
    left_out: tuple[str, ...]
    """What else lies there, and stays."""


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
    refuse_paths(directory, files)
    names = {file.name for file in files}
    return Contents(files=tuple(files), left_out=tuple(sorted(set(_names(directory)) - names)))


def _names(directory: Path) -> Iterable[str]:
    return (path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())


def _refuse_unfit(directory: Path, files: Iterable[File]) -> None:
    for file in files:
        if file.name.lower().endswith(CODE_AND_PICKLES):
            raise PublishError(f"{directory}: not published: {file.name} is code or a pickle, which loading could run")
        if any(part.startswith(".") for part in file.name.split("/")):
            raise PublishError(f"{directory}: not published: {file.name} is a hidden file, which belongs to no model")
        if (secret := _secret(file)) is not None:
            raise PublishError(
                f"{directory}: not published: {file.name} holds {secret}; take it out, and compress again"
            )


def refuse_paths(directory: Path, files: Iterable[File]) -> None:
    """Refuse to publish where a file tells of the machine that it was made on.

    Raises:
        PublishError: One does; names the file, the key and the path.
    """
    small = (file for file in files if file.size <= LARGEST_TEXT)
    contents = ((file.name, file.content if isinstance(file.content, bytes) else file.content.read_bytes())
                for file in small)  # fmt: skip
    if problem := refused_paths(contents, machine_roots(directory.parent)):
        raise PublishError(
            f"{directory}: not published: {problem}; take it out of the model's files, and compress again"
        )


def _secret(file: File) -> str | None:
    if file.size > LARGEST_TEXT or file.name.endswith((".safetensors", ".onnx", ".png")):
        return None
    content = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
    own = (os.environ.get(name, "").encode() for name in TOKEN_VARIABLES)
    if any(len(token) >= 8 and token in content for token in own):
        return "your own token"
    return next((name for name, pattern in SECRETS.items() if pattern.search(content)), None)
