"""Pages for authors of plugins: hooks, and the fields of an architecture."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator

import sottovoce
from generator.fields import dataclass_fields
from generator.markdown import paragraphs, sections
from sottovoce.plugins import hookspecs


def hooks_page() -> Iterator[str]:
    """Yield the paragraphs of the hooks' page."""
    yield "# Hooks"
    yield (
        "A plugin implements these functions, marked `@sottovoce.hookimpl`, in a module that it names in the\n"
        "entry-point group `sottovoce`. [Add a model family](../extend/model-family.md) shows one."
    )
    for name, function in vars(hookspecs).items():
        if not name.startswith("sottovoce_"):
            continue
        signature = ", ".join(inspect.signature(function).parameters)
        yield f"## {name}"
        yield f"`{name}({signature})`"
        yield from paragraphs(function.__doc__)
        yield from sections(function.__doc__)
        docstring = inspect.cleandoc(function.__doc__ or "")
        if example := re.search(r"^Example:\n((?:    .*\n?|\n)+)", docstring, re.M):
            yield f"<!-- not run: tests/core/test_hookspecs.py runs it -->\n{inspect.cleandoc(example[1])}"


def architecture_page() -> Iterator[str]:
    """Yield the paragraphs of the page of what a plugin states about a family."""
    module = inspect.getmodule(sottovoce.Architecture)
    yield "# Architecture fields"
    yield (
        "A plugin describes a model family with one `Architecture`. "
        "[Add a model family](../extend/model-family.md) explains how."
    )
    kinds = [kind for kind in vars(module).values() if dataclasses.is_dataclass(kind) and isinstance(kind, type)]
    kinds = [kind for kind in kinds if kind.__module__ == sottovoce.Architecture.__module__]
    for kind in sorted(kinds, key=lambda kind: kind is not sottovoce.Architecture):
        yield f"## {kind.__name__}"
        yield from paragraphs(kind.__doc__)
        yield dataclass_fields(kind)
