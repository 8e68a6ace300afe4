"""Which file of weights is meant, where a directory has several."""

from __future__ import annotations

import re
from pathlib import Path

from sottovoce.checkpoint.safe_config import contained_path
from sottovoce.errors import UsageError

_FORM = re.compile(r".+\.(safetensors|pt|pth|pb|bin)(\.[\w-]+)?|.+\.(safetensors|bin)\.index\.json")


def weight_names(directory: Path) -> list[str]:
    """The names of the files in a directory that may hold weights, or say which do."""
    return sorted(path.name for path in directory.iterdir() if _FORM.fullmatch(path.name) and path.is_file())


def asked_weights(directory: Path, name: str) -> Path:
    """The file of weights that was asked for by its name.

    Raises:
        UsageError: There is none of that name; lists those that there are.
        SourceError: The name leaves the directory.
    """
    path = contained_path(directory, name, "weights")
    if not path.is_file():
        present = ", ".join(weight_names(directory)) or "none"
        raise UsageError(f"{directory}: has no weights {name!r}; there are: {present}")
    return path
