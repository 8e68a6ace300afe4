"""Choice of the weights file in a directory that has several."""

from __future__ import annotations

import re
from pathlib import Path

from sottovoce.checkpoint.safe_config import contained_path
from sottovoce.errors import UsageError

_FORM = re.compile(r".+\.(safetensors|pt|pth|pb|bin)(\.[\w-]+)?|.+\.(safetensors|bin)\.index\.json")


def weight_names(directory: Path) -> list[str]:
    """Return the names of the files in a directory that may hold weights or an index of them."""
    return sorted(path.name for path in directory.iterdir() if _FORM.fullmatch(path.name) and path.is_file())


def requested_weights(directory: Path, name: str) -> Path:
    """Return the weights file of the given name.

    Raises:
        UsageError: There is no such file; lists those that there are.
        SourceError: The name leaves the directory.
    """
    path = contained_path(directory, name, "weights")
    if not path.is_file():
        present = ", ".join(weight_names(directory)) or "none"
        raise UsageError(f"{directory}: has no weights {name!r}; there are: {present}")
    return path
