"""Class name of a model, from the configuration in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sottovoce.checkpoint.safe_config import contained_path, read_config
from sottovoce.errors import SourceError

DESCRIPTION = "configuration.json"
"""ModelScope's description of a model, which may name the configuration."""

CONFIGURATIONS = ("config.json", "config.yaml", DESCRIPTION)
"""Files that may name the model class."""


def class_name(directory: Path) -> str:
    """Return the model class named in ``config.json`` (transformers) or in ``config.yaml`` (FunASR).

    The rest of the configuration is not checked here, so that an unknown class is reported first; see
    :func:`refuse_code`.

    Raises:
        SourceError: The directory is not a model directory, or its configuration is broken.
    """
    if not directory.is_dir():
        raise SourceError(f"{directory}: no such model directory")
    for path in _configurations(directory):
        config = read_config(path, (), references=True)
        if name := _name(config):
            return name
    names = ", ".join(sorted(path.name for path in directory.iterdir())[:6])
    raise SourceError(
        f"{directory}: not a model directory: no config.json or config.yaml names a model class "
        f"(it holds: {names or 'nothing'})"
    )


def configuration_name(directory: Path) -> str | None:
    """Return the name of the configuration file in ``configuration.json``; ``None`` if it names none."""
    described = directory / DESCRIPTION
    files = read_config(described, (), references=True).get("file_path_metas") if described.is_file() else None
    name = files.get("config") if isinstance(files, dict) else None
    return name if isinstance(name, str) else None


def refuse_code(directory: Path) -> None:
    """Refuse a directory whose configuration asks to run its own code.

    Raises:
        SourceError: It does, or holds a refused reference.
    """
    described = directory / DESCRIPTION
    for path in (*_configurations(directory), *([described] if described.is_file() else ())):
        read_config(path, references=True)


def _configurations(directory: Path) -> list[Path]:
    paths = [directory / "config.json", directory / "config.yaml"]
    if name := configuration_name(directory):
        paths.insert(0, contained_path(directory, name))
    return [path for path in paths if path.is_file()]


def _name(config: dict[str, Any]) -> str | None:
    names = config.get("architectures") or [config.get("model")]
    return names[0] if isinstance(names, list) and isinstance(names[0], str) else None
