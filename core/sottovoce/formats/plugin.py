"""The hook that writes registered formats: core's own plugin, which answers last."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.errors import PluginError
from sottovoce.formats.format import Format, formats_for
from sottovoce.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.model import Model


@hookimpl(trylast=True)
def sottovoce_export(model: Model, architecture: Architecture, format: str, directory: Path) -> Path | None:
    """Write the model in a registered format, and run what was written in the engine that it is for."""
    registered = formats_for(architecture).get(format)
    if registered is None:
        return None
    registered.write(model, directory)
    _require_files(registered, directory)
    registered.check(directory)
    return directory


def _require_files(format: Format, directory: Path) -> None:
    paths = list(directory.rglob("*")) if directory.is_dir() else []
    links = [path.relative_to(directory).as_posix() for path in paths if path.is_symlink()]
    owner = f"the format {format.name!r} of {type(format).__module__}"
    if links:
        raise PluginError(f"{owner} wrote the link {links[0]}, which means nothing elsewhere; nothing was written")
    if not any(path.is_file() for path in paths):
        raise PluginError(f"{owner} wrote no file")
