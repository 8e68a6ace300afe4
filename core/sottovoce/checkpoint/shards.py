"""Safetensors files of one checkpoint: their tensors' names, shapes and types, and partial reading."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.choice import requested_weights, weight_names
from sottovoce.checkpoint.safe_config import contained_path, read_config
from sottovoce.errors import CheckpointError, SourceError, UsageError
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
INDEX_ENDING = ".safetensors.index.json"
_KINDS = (".safetensors", INDEX_ENDING, ".bin", ".bin.index.json", ".pt", ".pth")
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Names of types in safetensors and in torch."""
_PART_BYTES = 256_000_000
_log = logging.getLogger("sottovoce")
_POINTER = b"version https://git-lfs"


class Shards:
    """Lazy reader of tensors by name from the files of a checkpoint."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Read the headers of the files.

        Raises:
            SourceError: A file is missing, truncated or not in the safetensors format; names it.
            CheckpointError: A tensor occurs in two files.
        """
        self._file_of: dict[str, Path] = {}
        self._forms: dict[str, tuple[tuple[int, ...], str]] = {}
        for path in paths:
            start_of(path)
            try:
                self._read_header(path)
            except (OSError, ValueError, _error()) as error:
                raise _damaged(path, error) from None

    @classmethod
    def of(cls, directory: Path, weights: str | None = None) -> Shards:
        """Return a reader of the one file of a directory, or of those that its index names.

        Args:
            directory: Directory of the checkpoint.
            weights: File or index to read instead of the one that transformers would choose.

        Raises:
            SourceError: Files are missing or damaged, or the index names files outside the directory.
            CheckpointError: The index and the files do not agree.
        """
        shards, first = cls(weight_files(directory, weights)), first_file(directory, weights)
        if first.name.endswith(INDEX_ENDING):
            named = read_config(first)["weight_map"]
            wrong = [name for name, file in named.items() if shards.file_of(name) != directory / str(file)]
            if wrong or len(named) != len(shards):
                differing = wrong or sorted(set(shards.names) - set(named))
                raise CheckpointError(
                    f"{first}: does not agree with the files on {counted(len(differing), 'tensor')}, such as "
                    f"{differing[0]!r}; fetch the model again"
                )
        return shards

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._file_of)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors."""
        return tuple(self._file_of)

    def file_of(self, name: str) -> Path | None:
        """Return the file that holds a tensor."""
        return self._file_of.get(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return self._forms[name][0]

    def dtype(self, name: str) -> torch.dtype:
        """Return the type of a tensor without reading it.

        Raises:
            SourceError: The type is not supported.
        """
        import torch

        dtype = self._forms[name][1]
        if dtype not in _DTYPES:
            raise SourceError(f"{self._file_of[name]}: {name!r} is of the type {dtype!r}, which is not supported")
        return getattr(torch, _DTYPES[dtype])  # type: ignore[no-any-return]

    @property
    def size_bytes(self) -> int:
        """Size of all files in bytes."""
        return sum(path.stat().st_size for path in set(self._file_of.values()))

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Copy tensors into memory; pages of the files are released while they are read.

        Raises:
            SourceError: A file is damaged.
        """
        from safetensors import safe_open

        tensors: dict[str, Tensor] = {}
        for path, remaining in self._by_file(names).items():
            try:
                while remaining:
                    # Opened anew for every part, because closing the file releases the pages that were read.
                    with safe_open(path, "pt") as file:
                        part = 0
                        while remaining and part < _PART_BYTES:
                            name = remaining.pop(0)
                            tensors[name] = file.get_tensor(name).clone()
                            part += tensors[name].nbytes
            except (OSError, _error()) as error:
                raise _damaged(path, error) from None
        return tensors

    def map(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Map tensors from their files; pages are read as they are used.

        Raises:
            SourceError: A file is damaged.
        """
        from safetensors import safe_open

        tensors: dict[str, Tensor] = {}
        for path, mapped in self._by_file(names).items():
            try:
                with safe_open(path, "pt") as file:
                    tensors |= {name: file.get_tensor(name) for name in mapped}
            except (OSError, _error()) as error:
                raise _damaged(path, error) from None
        return tensors

    def _by_file(self, names: Iterable[str]) -> dict[Path, list[str]]:
        groups: dict[Path, list[str]] = {}
        for name in names:
            groups.setdefault(self._file_of[name], []).append(name)
        return groups

    def _read_header(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                if name in self._file_of:
                    raise CheckpointError(f"{path}: holds {name!r}, which {self._file_of[name].name} holds too")
                self._file_of[name] = path
                described = file.get_slice(name)
                self._forms[name] = tuple(described.get_shape()), str(described.get_dtype())


def first_file(directory: Path, weights: str | None = None) -> Path:
    """Return the file that reading begins with.

    The order is that of transformers: the file that ``config.json`` names, a single file, an index.

    Args:
        directory: Directory of the checkpoint.
        weights: File or index to read instead.

    Raises:
        UsageError: ``weights`` does not exist, or is of another kind.
        SourceError: There are no weights.
    """
    if weights is not None:
        path = requested_weights(directory, weights)
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


def say_choice(directory: Path, weights: str | None = None) -> None:
    """Log a warning that names the chosen weights if a directory has others too and the user chose none."""
    first = first_file(directory, weights)
    chosen = {path.name for path in weight_files(directory, weights)} | {first.name}
    others = [name for name in weight_names(directory) if name.endswith(_KINDS) and name not in chosen]
    if others and weights is None:
        message = (
            "%s: reading the weights %s, as transformers does; choose with --weights (weights=), there are also: %s"
        )
        _log.warning(message, directory, first.name, ", ".join(others[:8]))


def weight_files(directory: Path, weights: str | None = None) -> list[Path]:
    """Return the weight files of a directory.

    Args:
        directory: Directory of the checkpoint.
        weights: As for :func:`first_file`.

    Raises:
        UsageError: ``weights`` does not exist.
        SourceError: Files are missing, or an index names files outside the directory.
    """
    index = first_file(directory, weights)
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
    """Return the first bytes of a file that may hold weights.

    Raises:
        SourceError: The file is missing, empty or not readable, or is a Git LFS pointer.
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
        raise SourceError(f"{path}: is a Git LFS pointer, not the weights; run `git lfs pull` there")
    return start


def _error() -> type[Exception]:
    from safetensors import SafetensorError

    error: type[Exception] = SafetensorError
    return error


def _damaged(path: Path, error: Any) -> SourceError:
    return SourceError(f"{path}: the weights are damaged ({' '.join(str(error).split())[:200]})")
