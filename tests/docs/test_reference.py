"""The reference pages say what the code says."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from types import ModuleType
from typing import Literal

import pytest
from pydantic import BaseModel

from docs.pages import ROOT

SCRIPT = ROOT / "docs" / "generate.py"
REFERENCE = ROOT / "docs" / "reference"
SOURCES = [path for folder in ("core", "hub", "plugins") for path in (ROOT / folder).rglob("*.py")]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_fields_have_type_default_and_docstring(generate: ModuleType) -> None:
    text = sys.modules["generator.fields"].model_fields(Sized)
    assert text.splitlines() == [
        "- `size` (`int`, required): Number of things.",
        "- `kind` (`small | large`, default `small`): Kind of the thing, a `Size`.",
        "- `on` (`bool | None`, default `none`)",
    ]


def test_docstring_becomes_paragraphs_up_to_its_first_section(generate: ModuleType) -> None:
    text = "First ``code``\n    and :class:`~a.b.Name`.\n\n    Second.\n\n    Args:\n        x: Not here.\n"
    assert sys.modules["generator.markdown"].paragraphs(text) == ["First `code` and `Name`.", "Second."]


def test_files_that_a_page_shows_are_filled_in(generate: ModuleType) -> None:
    head = "<!-- file: examples/demo.yaml -->\n<!-- not run: why -->\n"
    text = (ROOT / "examples" / "demo.yaml").read_text(encoding="utf-8")
    page = generate.with_files(f"a\n{head}```yaml\nold\n```\n\n```yaml\nother\n```\n")
    assert page == f"a\n{head}```yaml\n{text}```\n\n```yaml\nother\n```\n"


def test_the_sample_plugin_is_shown() -> None:
    page = (ROOT / "docs" / "extend" / "model-family.md").read_text(encoding="utf-8")
    for name in ("pyproject.toml", "sottovoce_wav2vec2.py"):
        assert (ROOT / "examples" / "third_party_plugin" / name).read_text(encoding="utf-8") in page


def test_every_hook_is_there_with_its_arguments() -> None:
    from sottovoce.plugins import hookspecs

    page = (REFERENCE / "hooks.md").read_text(encoding="utf-8")
    names = [name for name in vars(hookspecs) if name.startswith("sottovoce_")]
    assert len(names) >= 5
    for name in names:
        arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
        assert f"`{name}({arguments})`" in page


def test_every_environment_variable_of_the_code_is_explained() -> None:
    page = (REFERENCE / "environment.md").read_text(encoding="utf-8")
    names = {name for path in SOURCES for name in re.findall(r"\bSOTTOVOCE_[A-Z][A-Z0-9_]*\b", path.read_text("utf-8"))}
    assert len(names) >= 5
    assert {name for name in names if f"`{name}`" not in page} == set()
    assert set(re.findall(r"`(SOTTOVOCE_\w+)`", page)) <= names


def test_every_key_of_compression_json_is_explained() -> None:
    import dataclasses

    from sottovoce import CompressionReport, StepReport, Target

    page = (REFERENCE / "compression-json.md").read_text(encoding="utf-8")
    keys = {field.name for field in dataclasses.fields(CompressionReport)}
    keys |= {field.name for kind in (StepReport, Target) for field in dataclasses.fields(kind)}
    assert {key for key in keys if f"`{key}`" not in page} == set()


def floors() -> list[list[str]]:
    """Return the floors that tests/test_layout.py checks, without what stands above the command line."""
    tree = ast.parse((ROOT / "tests" / "test_layout.py").read_text(encoding="utf-8"))
    values = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS"
    ]
    return [names for names in ast.literal_eval(values[0]) if "testing" not in names]


def test_architecture_page_has_the_floors_in_their_order() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("| floor | content |")[2].partition("\n\n")[0]
    shown = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines() if line.startswith("| `")]
    assert shown == floors()


def test_files_that_the_architecture_page_names_exist() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("| question | file |")[2]
    paths = [path for line in table.splitlines() for path in re.findall(r"`([\w/-]+/[\w./-]+)`", line)]
    assert len(paths) >= 12
    assert [path for path in paths if not any((root / path).exists() for root in (ROOT, ROOT / "core/sottovoce"))] == []


def test_classes_that_the_glossary_names_exist() -> None:
    page = (ROOT / "docs" / "explanation" / "glossary.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([A-Z]\w+)`", page))
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert len(names) >= 5
    assert {name for name in names if not re.search(rf"^class {name}\b", source, re.M)} == set()


def test_contributing_has_every_folder_of_core() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    core = ROOT / "core" / "sottovoce"
    folders = {path.parent.name for path in core.glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", page, re.M)) == folders


class Sized(BaseModel):
    """Something with a size."""

    size: int
    """Number of things."""
    kind: Literal["small", "large"] = "small"
    """Kind of the thing, a :class:`~somewhere.Size`."""
    on: bool | None = None


def test_signature_has_no_types_and_names_functions(generate: ModuleType) -> None:
    def save(model: int, *paths: str, host: str | None = None, progress: object = pytest.param) -> None: ...

    bare = sys.modules["generator.python_page"].bare_parameters
    assert list(bare(save)) == ["model", "*paths", "host=None", "progress=param"]
    assert list(bare(lambda model, *, recipe="int8": None)) == ["model", "*", "recipe='int8'"]
