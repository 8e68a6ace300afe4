"""Names that a shell completes: of recipes and of export formats."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem


class RecipeName(click.ParamType[str]):
    """Name of a recipe, or a recipe file; what it is is decided when the recipe is read."""

    name = "recipe"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the recipes' names, and files."""
        from sottovoce.plugins.host import default_host

        return [*_beginning(incomplete, default_host().presets), CompletionItem(incomplete, type="file")]


class FormatName(click.ParamType[str]):
    """Name of an export format; which a model has is decided when it is loaded."""

    name = "format"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the formats' names."""
        from sottovoce.formats.format import labels
        from sottovoce.plugins.host import default_host

        default_host()  # Plugins declare formats when they are imported.
        return _beginning(incomplete, labels())


def _beginning(text: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(text)]
