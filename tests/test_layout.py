"""The house keeps its shape: short files, imports that run downward, importing costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("core", "hub", "plugins") for path in (ROOT / folder).rglob("*.py"))
CORE = ROOT / "core" / "sottovoce"

FLOORS = [
    ["__main__", "testing"],
    ["cli"],
    ["serving"],
    ["entrypoints"],
    ["engines", "recipe_search", "transcription"],
    ["quantization", "experts", "pruning", "training", "metrics"],
    ["calibration"],
    ["formats"],
    ["plugins", "reports"],
    ["runtime", "model"],
    ["architecture", "checkpoint"],
    ["recipe", "samples", "source"],
    ["report", "system", "network"],
    ["errors"],
    ["text"],
]
"""From the top down; a module imports only from floors below its own, or from its own folder."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def floor_of(module: str) -> int:
    part = module.removeprefix("sottovoce").strip(".").partition(".")[0]
    return next((number for number, names in enumerate(FLOORS) if part in names), len(FLOORS))


def run_time_imports(path: Path) -> set[str]:
    """Modules of sottovoce that a file imports when it runs; those for type checkers alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    return {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node not in hidden and (node.module or "").startswith("sottovoce.")
        if node.module
    }


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_imports_run_downward(path: Path) -> None:
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    here = floor_of(own)
    assert here < len(FLOORS), f"{own} has no floor"
    for module in run_time_imports(path):
        same_folder = module.split(".")[1] == own
        assert same_folder or floor_of(module) > here, f"{path.name} imports {module}"


def test_core_has_few_modules_at_its_top() -> None:
    assert len(list(CORE.glob("*.py"))) <= 8


@pytest.mark.parametrize("code", ["import sottovoce", "import sottovoce.cli", "from sottovoce import hookimpl, Recipe"])
def test_importing_brings_no_torch(code: str) -> None:
    check = f"{code}\nimport sys; print({{'torch', 'transformers', 'funasr', 'modelscope'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_nothing_reads_pickle_unsafely() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("weights_only") == "True", path


def test_one_module_says_how_a_python_process_is_started() -> None:
    """All others ask it: what is started anywhere leaves the working directory, a model's perhaps, out of its path."""
    naming = {path.relative_to(ROOT).as_posix() for path in SOURCES if "sys.executable" in path.read_text("utf-8")}
    assert naming == {"core/sottovoce/system/interpreter.py"}
