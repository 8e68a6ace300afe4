"""The field's words: docstrings that begin as PEP 257 says, names that say what a value is, no retired words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("core/sottovoce", "hub/sottovoce_hub", "plugins", "benchmarks", "examples")
QUESTIONS = {"What", "Whether", "How", "Which", "Where", "Who", "Whose", "When", "Why"}
ARTICLES = {"The", "A", "An"}
BANNED_NAMES = {
    *("found", "made", "each", "own", "mine", "some", "one", "wanted"),
    *("told", "whose", "homes", "asked"),
}
RETIRED_NAMES = {
    *("Grid", "Passage", "Damage", "spoilt", "lanes", "doors", "passage", "walk", "rewire", "unfused", "surgery"),
    *("begin_", "visit_", "enter_", "leave_", "spared", "float_inputs", "served_as", "round_layer_"),
    *("QuantizedBlocks", "PrunedExperts", "SmoothedBlocks", "SkippedExperts", "from_steps", "FinishedBlocks"),
}
RETIRED_WORDS = re.compile(
    r"\b(heeds?|heeded|goes on\b(?! to)|lets? go\b|is told|are told|stands? twice|made precise again|by its own range"
    r"|(?<!here )is no (?!longer|more|less|other|such|need)\w+|spoilt|surgery|passages?|lanes?|the walk|doors?)\b"
)


def sources() -> list[Path]:
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "build" not in path.parts)
    return sorted(paths)


parametrized = pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))


def docstrings(tree: ast.Module) -> Iterator[tuple[int, bool, str]]:
    """Yield the line, whether it is a function's, and the text of every docstring, fields' included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
            yield node.lineno, not is_property(node), text
        elif isinstance(node, ast.Module | ast.ClassDef):
            if text := ast.get_docstring(node):
                yield getattr(node, "lineno", 1), False, text
            yield from field_docstrings(node)


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def field_docstrings(node: ast.Module | ast.ClassDef) -> Iterator[tuple[int, bool, str]]:
    for field, following in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(field, ast.Assign | ast.AnnAssign) and isinstance(following, ast.Expr)):
            continue
        if isinstance(following.value, ast.Constant) and isinstance(following.value.value, str):
            yield following.lineno, False, following.value.value


def bound_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    # Fields are keys of JSON and YAML forms, which keep their names.
    fields = {
        field.target
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in fields:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def named(tree: ast.Module) -> Iterator[tuple[int, str]]:
    yield from bound_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Attribute) and node.attr != "walk":  # os.walk
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names)


def strings_and_comments(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for number, line in enumerate(text.splitlines(), 1):
        if " # " in line or line.lstrip().startswith("#"):
            yield number, line.partition("# ")[2]


@parametrized
def test_docstrings_of_functions_begin_with_a_verb_and_of_fields_with_a_noun(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [
        f"{path}:{line}: {text.splitlines()[0]}"
        for line, is_function, text in docstrings(tree)
        if text.split()[0].strip(",.:") in (QUESTIONS | ARTICLES if is_function else QUESTIONS)
    ]
    assert not wrong, "\n".join(wrong)


@parametrized
def test_local_names_say_what_the_value_is(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [f"{path}:{line}: {name}" for line, name in bound_names(tree) if name in BANNED_NAMES]
    assert not wrong, "\n".join(wrong)


@parametrized
def test_retired_words_are_gone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wrong = [f"{path}:{line}: {name}" for line, name in named(ast.parse(text)) if name in RETIRED_NAMES]
    for line, words in strings_and_comments(text):
        wrong.extend(f"{path}:{line}: {match[0]}" for match in RETIRED_WORDS.finditer(words))
    assert not wrong, "\n".join(wrong)


@parametrized
def test_the_formatter_formats_all_lines(path: Path) -> None:
    assert "fmt: skip" not in path.read_text(encoding="utf-8")
