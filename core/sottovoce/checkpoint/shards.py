"""The safetensors files of one checkpoint: what they hold, reading a few tensors at a time, and writing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.guard import contained_path, read_config
from sottovoce.errors import CheckpointError, SourceError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PART_BYTES = 256_000_000
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
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in paths:
            start_of(path)
            try:
                self._look_into(path)
            except (OSError, ValueError, _error()) as error:
                raise _damaged(path, error) from None

    @classmethod
    def of(cls, directory: Path) -> Shards:
        """The files that a directory's index names, or its one file.

        Raises:
            SourceError: Files are missing or damaged, or the index names files outside the directory.
            CheckpointError: The index and the files do not agree.
        """
        shards = cls(weight_files(directory))
        if (directory / INDEX).is_file():
            named = read_config(directory / INDEX)["weight_map"]
            wrong = [name for name, file in named.items() if shards.file_of(name) != directory / str(file)]
            if wrong or len(named) != len(shards):
                found = wrong or sorted(set(shards.names) - set(named))
                raise CheckpointError(
                    f"{directory / INDEX}: does not agree with the files, on {len(found)} tensors, {found[0]!r} one; "
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
        return self._shapes[name]

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
                self._shapes[name] = tuple(file.get_slice(name).get_shape())


def weight_files(directory: Path) -> list[Path]:
    """The weight files of a directory; an index that names files outside the directory is refused.

    Raises:
        SourceError: Files are missing.
    """
    index = directory / INDEX
    if not index.is_file():
        if not (directory / WEIGHTS).is_file():
            raise SourceError(f"{directory}: the weights are missing (no {WEIGHTS})")
        return [directory / WEIGHTS]
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
        SourceError: The file is missing or empty, or stands for one that was not fetched.
    """
    if not path.is_file():
        raise SourceError(f"{path.parent}: the weights are missing (no {path.name})")
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
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
