"""The hook that writes registered formats: core's own plugin, which answers last."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.formats.format import formats_for
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
    registered.check(directory)
    return directory
