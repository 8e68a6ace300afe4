"""The safetensors files of one checkpoint: what they hold, reading a few tensors at a time, and writing them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.choice import asked_weights, weight_names
from sottovoce.checkpoint.safe_config import contained_path, read_config
from sottovoce.errors import CheckpointError, SourceError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
INDEX_ENDING = ".safetensors.index.json"
_KINDS = (".safetensors", INDEX_ENDING, ".bin", ".bin.index.json", ".pt", ".pth")
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Safetensors' words for types, and torch's."""
_PART_BYTES = 256_000_000
_log = logging.getLogger("sottovoce")
_POINTER = b"version https://git-lfs"


class Shards:
    """Reads tensors by name from the files of a checkpoint; none of them is in memory before it is asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Look what the files hold.

        Raises:
            SourceError: A file is missing, truncated or no safetensors file; names it.
            CheckpointError: A tensor stands in two files.
        """
        self._file_of: dict[str, Path] = {}
        self._forms: dict[str, tuple[tuple[int, ...], str]] = {}
        for path in paths:
            start_of(path)
            try:
                self._look_into(path)
            except (OSError, ValueError, _error()) as error:
                raise _damaged(path, error) from None

    @classmethod
    def of(cls, directory: Path, asked: str | None = None) -> Shards:
        """The one file of a directory, or those that its index names.

        Args:
            directory: The checkpoint's.
            asked: The file or the index that the caller wants instead of the one that transformers would take.

        Raises:
            SourceError: Files are missing or damaged, or the index names files outside the directory.
            CheckpointError: The index and the files do not agree.
        """
        shards, first = cls(weight_files(directory, asked)), first_file(directory, asked)
        if first.name.endswith(INDEX_ENDING):
            named = read_config(first)["weight_map"]
            wrong = [name for name, file in named.items() if shards.file_of(name) != directory / str(file)]
            if wrong or len(named) != len(shards):
                found = wrong or sorted(set(shards.names) - set(named))
                raise CheckpointError(
                    f"{first}: does not agree with the files, on {len(found)} tensors, {found[0]!r} one; "
                    "fetch the model again"
                )
        return shards

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._file_of)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors."""
        return tuple(self._file_of)

    def file_of(self, name: str) -> Path | None:
        """The file that a tensor lies in."""
        return self._file_of.get(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is not read."""
        return self._forms[name][0]

    def dtype(self, name: str) -> torch.dtype:
        """The type of a tensor, which is not read.

        Raises:
            SourceError: It is one that no model here has.
        """
        import torch

        word = self._forms[name][1]
        if word not in _DTYPES:
            raise SourceError(f"{self._file_of[name]}: {name!r} is of the type {word!r}, which is not read here")
        return getattr(torch, _DTYPES[word])  # type: ignore[no-any-return]

    @property
    def size_bytes(self) -> int:
        """The bytes that the files take."""
        return sum(path.stat().st_size for path in set(self._file_of.values()))

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Copies of some tensors; the pages of the files are let go of while they are read.

        Raises:
            SourceError: A file is damaged.
        """
        from safetensors import safe_open

        found: dict[str, Tensor] = {}
        for path, wanted in self._by_file(names).items():
            try:
                while wanted:
                    # Opened anew for every part: closing it lets the pages go that were read.
                    with safe_open(path, "pt") as file:
                        part = 0
                        while wanted and part < _PART_BYTES:
                            name = wanted.pop(0)
                            found[name] = file.get_tensor(name).clone()
                            part += found[name].nbytes
            except (OSError, _error()) as error:
                raise _damaged(path, error) from None
        return found

    def map(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some tensors as they lie in their files: their pages are read as they are used.

        Raises:
            SourceError: A file is damaged.
        """
        from safetensors import safe_open

        found: dict[str, Tensor] = {}
        for path, wanted in self._by_file(names).items():
            try:
                with safe_open(path, "pt") as file:
                    found |= {name: file.get_tensor(name) for name in wanted}
            except (OSError, _error()) as error:
                raise _damaged(path, error) from None
        return found

    def _by_file(self, names: Iterable[str]) -> dict[Path, list[str]]:
        found: dict[Path, list[str]] = {}
        for name in names:
            found.setdefault(self._file_of[name], []).append(name)
        return found

    def _look_into(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                if name in self._file_of:
                    raise CheckpointError(f"{path}: holds {name!r}, which {self._file_of[name].name} holds too")
                self._file_of[name] = path
                described = file.get_slice(name)
                self._forms[name] = tuple(described.get_shape()), str(described.get_dtype())


def first_file(directory: Path, asked: str | None = None) -> Path:
    """The file that reading begins with, in the order of transformers: what ``config.json`` names, one file, an index.

    Args:
        directory: The checkpoint's.
        asked: What the caller wants instead.

    Raises:
        UsageError: There is no file of the name that was asked for, or it is of another kind.
        SourceError: There are no weights.
    """
    if asked is not None:
        path = asked_weights(directory, asked)
        if not path.name.endswith((".safetensors", INDEX_ENDING)):
            raise UsageError(f"{path}: such a model is read from safetensors or from an index of them ({INDEX})")
        return path
    config = directory / "config.json"
    named = read_config(config).get("transformers_weights") if config.is_file() else None
    if isinstance(named, str):
        return contained_path(directory, named, "transformers_weights")
    if not (directory / WEIGHTS).is_file() and not (directory / INDEX).is_file():
        raise SourceError(f"{directory}: the weights are missing (no {WEIGHTS})")
    return directory / (WEIGHTS if (directory / WEIGHTS).is_file() else INDEX)


def say_choice(directory: Path, asked: str | None = None) -> None:
    """Say which weights are taken where a directory has another set of them, and nobody chose."""
    first = first_file(directory, asked)
    taken = {path.name for path in weight_files(directory, asked)} | {first.name}
    others = [name for name in weight_names(directory) if name.endswith(_KINDS) and name not in taken]
    if others and asked is None:
        _log.warning("%s: of its weights %s is taken, as transformers does; --weights (weights=) takes another of %s",
                     directory, first.name, ", ".join(others[:8]))  # fmt: skip


def weight_files(directory: Path, asked: str | None = None) -> list[Path]:
    """The weight files of a directory; an index that names files outside the directory is refused.

    Args:
        directory: The checkpoint's.
        asked: As for :func:`first_file`.

    Raises:
        UsageError: What was asked for is not there.
        SourceError: Files are missing.
    """
    index = first_file(directory, asked)
    if not index.name.endswith(INDEX_ENDING):
        return [index]
    names = read_config(index).get("weight_map")
    if not isinstance(names, Mapping):
        raise SourceError(f"{index}: has no weight_map")
    paths = [contained_path(directory, str(name)) for name in sorted(set(map(str, names.values())))]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise SourceError(f"{directory}: the weights are missing: {', '.join(missing)}")
    return paths


def start_of(path: Path) -> bytes:
    """The first bytes of a file that may hold weights.

    Raises:
        SourceError: The file is missing or empty, may not be read, or stands for one that was not fetched.
    """
    if not path.is_file():
        raise SourceError(f"{path.parent}: the weights are missing (no {path.name})")
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except PermissionError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    if not start:
        raise SourceError(f"{path}: the weights are damaged (the file is empty)")
    if start == _POINTER:
        raise SourceError(f"{path}: is Git LFS's pointer to the weights, not the weights; run `git lfs pull` there")
    return start


def _error() -> type[Exception]:
    from safetensors import SafetensorError

    found: type[Exception] = SafetensorError
    return found


def _damaged(path: Path, error: Any) -> SourceError:
    return SourceError(f"{path}: the weights are damaged ({' '.join(str(error).split())[:200]})")
