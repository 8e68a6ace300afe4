"""The page of the Python API: the public names of ``sottovoce``."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import sottovoce
from generator.fields import dataclass_fields
from generator.markdown import filled, item, paragraphs, sections


def python_page() -> Iterator[str]:
    """Yield the paragraphs of the Python API's page."""
    yield "# Python API"
    yield "These names are public: `import sottovoce` gives them. Everything else may move between versions."
    public = {name: getattr(sottovoce, name) for name in sottovoce.__all__}
    kinds = {name: value for name, value in public.items() if inspect.isclass(value)}
    yield "## Functions"
    for name, value in public.items():
        if inspect.isfunction(value):
            yield from function_paragraphs(name, value)
    yield "## Classes for users"
    for name in ("Model", "Sample", "Prediction", "Metric"):
        yield f"### {name}"
        yield from paragraphs(kinds[name].__doc__)
        if dataclasses.is_dataclass(kinds[name]):
            yield dataclass_fields(kinds[name])
    yield "## All classes"
    yield "\n".join(item(f"`{name}`", (inspect.getdoc(value) or "").split("\n\n")[0]) for name, value in kinds.items())


def function_paragraphs(name: str, function: Any) -> Iterator[str]:
    """Yield the paragraphs of a function."""
    yield f"### {name}"
    signature = ", ".join(bare_parameters(function))
    yield f"```text\n{filled(f'sottovoce.{name}({signature})', rest='    ')}\n```"
    yield from paragraphs(function.__doc__)
    yield from sections(function.__doc__)


def bare_parameters(function: Any) -> Iterator[str]:
    """Yield the parameters of a function without their types, with ``*`` before those that need their name."""
    is_after_star = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not is_after_star:
            is_after_star = True
            yield "*"
        is_after_star = is_after_star or parameter.kind is parameter.VAR_POSITIONAL
        default = parameter.default
        name = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
        text = default.__name__ if inspect.isfunction(default) else repr(default)
        yield name if default is parameter.empty else f"{name}={text}"
