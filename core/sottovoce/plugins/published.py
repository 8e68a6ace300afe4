"""The project's own plugins: the classes they describe, and the paths that pip installs them from.

No package index has them, so errors advise installing them in a clone of the repository.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

CORE = "sottovoce"
"""Name of core's distribution, at the root of the repository."""


@functools.cache
def _plugins() -> Mapping[str, Mapping[str, Any]]:
    text = resources.files("sottovoce.plugins").joinpath("published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def classes() -> dict[str, list[str]]:
    """Return the model classes that each plugin describes, by the plugin's distribution."""
    return {name: list(plugin["classes"]) for name, plugin in _plugins().items()}


def plugin_of(command: str) -> str | None:
    """Return the distribution that brings a command; ``None`` if no plugin of the project does."""
    return next((name for name, plugin in _plugins().items() if command in plugin.get("commands", ())), None)


def installable(packages: Iterable[str]) -> list[str]:
    """Return the arguments of ``pip install`` in a clone: paths for the project's own distributions, others unchanged.

    Args:
        packages: Requirements, the project's own distributions or others.
    """
    words: list[str] = []
    for package in packages:
        name = re.split(r"[^\w.-]", package, maxsplit=1)[0].lower().replace("_", "-")
        if name in _plugins():
            words += [".", str(_plugins()[name]["path"])]
        else:
            words.append("." if name == CORE else package)
    return list(dict.fromkeys(words))


def is_in_clone(words: Sequence[str]) -> bool:
    """Return true if any of the arguments is a path in a clone of the repository."""
    return any(word.startswith(".") for word in words)
