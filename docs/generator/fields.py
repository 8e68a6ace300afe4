"""Fields of pydantic models and dataclasses: types, defaults and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, get_args

from pydantic import BaseModel

from generator.markdown import item


def model_fields(kind: type[BaseModel]) -> str:
    """Return the list of a pydantic model's fields."""

    def default(name: str) -> Any:
        field = kind.model_fields[name]
        return inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)

    return fields_list(kind, default)


def dataclass_fields(kind: type) -> str:
    """Return the list of a dataclass's fields."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return fields_list(kind, lambda name: field_default(fields[name]))


def fields_list(kind: type, defaults: Callable[[str], Any]) -> str:
    """Return the list of a class's fields: name, type, default and meaning."""
    lines = []
    for name, (annotation, text) in field_docs(kind).items():
        if name == "model_config" or annotation.startswith("ClassVar"):
            continue
        default = defaults(name)
        after = "required" if default is inspect.Parameter.empty else f"default `{plain(default)}`"
        lines.append(item(f"`{name}` (`{annotation}`, {after})", text))
    return "\n".join(lines)


def field_docs(kind: type) -> dict[str, tuple[str, str]]:
    """Return the type and the docstring of every field that a class itself declares, by name."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    aliases = type_aliases(sys.modules[kind.__module__])
    docs = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = following.value if isinstance(following, ast.Expr) else None
            text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
            docs[statement.target.id] = (type_name(statement.annotation, aliases), inspect.cleandoc(text))
    return docs


def type_aliases(module: ModuleType) -> dict[str, ast.expr]:
    """Return what the names of types stand for that a module defines."""
    statements = ast.parse(inspect.getsource(module)).body
    pairs = [(node.targets[0], node.value) for node in statements if isinstance(node, ast.Assign)]
    return {
        target.id: value
        for target, value in pairs
        if isinstance(target, ast.Name) and isinstance(value, ast.Subscript) and not target.id.startswith("_")
    }


def type_name(annotation: ast.expr, aliases: Mapping[str, ast.expr]) -> str:
    """Return an annotation as a reader of YAML or Python takes it: no ``Annotated``, the values of a ``Literal``."""
    if isinstance(annotation, ast.BinOp):
        return f"{type_name(annotation.left, aliases)} | {type_name(annotation.right, aliases)}"
    if isinstance(annotation, ast.Name) and annotation.id in aliases:
        return type_name(aliases[annotation.id], aliases)
    if isinstance(annotation, ast.Subscript):
        elements = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        name = ast.unparse(annotation.value)
        if name == "Annotated":
            return type_name(elements[0], aliases)
        if name == "Literal":
            return " | ".join(str(element.value) for element in elements if isinstance(element, ast.Constant))
        return f"{name}[{', '.join(type_name(element, aliases) for element in elements)}]"
    return ast.unparse(annotation)


def plain(value: Any) -> str:
    """Return a default as recipes write it."""
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def field_default(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a dataclass's field."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        return inspect.Parameter.empty
    is_record = dataclasses.is_dataclass(field.default)
    return f"{type(field.default).__name__}()" if is_record else field.default


def submodels(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from submodels(argument)
