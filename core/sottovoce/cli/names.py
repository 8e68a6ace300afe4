"""Names that a shell completes: of recipes, export formats, engines and steps of a search."""

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


class RecipeNames(click.ParamType[str]):
    """Names or files of recipes, with commas."""

    name = "recipes"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the recipes' names for what follows the last comma, with all before it."""
        from sottovoce.plugins.host import default_host

        return _listed(incomplete, default_host().presets)


class EngineName(click.ParamType[str]):
    """Name of an engine; which there are is decided when the check begins."""

    name = "engine"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the engines' names."""
        from sottovoce.engines.engine import registered_engines
        from sottovoce.entrypoints.own_engine import Sottovoce
        from sottovoce.plugins.host import default_host

        default_host()  # Plugins register their engines when they are imported.
        names = {Sottovoce.name, *(engine.name for engine in registered_engines())}
        return _beginning(incomplete, sorted(names))


class SearchedSteps(click.ParamType[str]):
    """Steps of a search, with commas; they are read when the search begins."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the steps' names for what follows the last comma, with all before it."""
        from sottovoce.recipe_search.structures import STEPS

        return _listed(incomplete, STEPS)


def _listed(text: str, names: Iterable[str]) -> list[CompletionItem]:
    """Return lists with commas that go on with one of the names."""
    before, comma, last = text.rpartition(",")
    given = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{item.value}")
        for item in _beginning(last, (name for name in names if name not in given))
    ]


def _beginning(text: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(text)]
