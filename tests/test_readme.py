"""What the README shows is what runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


@pytest.mark.parametrize(("name", "language"), [("pyproject.toml", "toml"), ("sottovoce_wav2vec2.py", "python")])
def test_the_plugin_shown_is_the_plugin_tested(name: str, language: str) -> None:
    text = (ROOT / "examples" / "third_party_plugin" / name).read_text(encoding="utf-8")
    assert text in blocks(language)


def test_the_python_runs_in_the_order_shown(tmp_path: Path) -> None:
    shown = [block for block in blocks("python") if "examples/" in block or "outputs/" in block]
    assert len(shown) == 5
    code = "\n".join(shown).replace('"outputs/', f'"{tmp_path}/')
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(re.findall(r"[\u4e00-\u9fff]{3,}", done.stdout)) >= 2


DATA = re.compile(r"examples/data/[\w/.-]+\.jsonl")
ROWS = 10
"""Rows of a manifest that the everyday run takes: one row in so many keeps all kinds of the mixture's tasks."""


def shortened(manifest: str, folder: Path) -> str:
    """Write every n-th row of a manifest, with paths from the root."""
    source = ROOT / manifest
    rows = source.read_text(encoding="utf-8").splitlines()
    path = folder / manifest.replace("/", "-")
    kept = rows[:: max(1, len(rows) // ROWS) | 1]
    absolute = re.compile(r'("(?:source|audio|image|video)": ")([^"]+)')
    lists = re.compile(r'"([\w/.-]+\.(?:png|jpg))"')
    moved = [absolute.sub(lambda found: f"{found[1]}{source.parent}/{found[2]}", row) for row in kept]
    moved = [lists.sub(lambda found: f'"{(source.parent / found[1])}"', row) for row in moved]
    path.write_text("\n".join(moved) + "\n", encoding="utf-8")
    return str(path)


def run_commands(shown: str) -> None:
    for line in shown.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "sottovoce"
        done = subprocess.run([sys.executable, "-m", program, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout or done.stderr


def test_the_commands_run_in_the_order_shown_on_shorter_data(tmp_path: Path) -> None:
    shown = "".join(block for block in blocks("sh") if "examples/" in block)
    assert len(DATA.findall(shown)) >= 3
    short = DATA.sub(lambda found: shortened(found[0], tmp_path), shown.replace("outputs/", f"{tmp_path}/"))
    run_commands(short)


@pytest.mark.slow
def test_the_commands_run_in_the_order_shown(tmp_path: Path) -> None:
    shown = "".join(block for block in blocks("sh") if "examples/" in block)
    run_commands(shown.replace("outputs/", f"{tmp_path}/"))


def test_the_recipes_shown_are_valid(tmp_path: Path) -> None:
    from sottovoce import Recipe

    shown = blocks("yaml")
    assert len(shown) == 2
    for text in shown:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        assert Recipe.read(path).steps


def test_every_hook_is_named_with_its_arguments() -> None:
    import inspect

    from sottovoce.plugins import hookspecs

    for name in (name for name in vars(hookspecs) if name.startswith("sottovoce_")):
        arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
        assert f"`{name}({arguments})`" in README
