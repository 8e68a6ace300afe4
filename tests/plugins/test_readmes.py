"""Each plugin's README fits the code: its imports exist, its commands parse, its recipes and classes are there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from sottovoce import cli
from sottovoce.plugins.host import default_host

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/README.md"))


def blocks(plugin: Path, language: str) -> list[str]:
    text = (plugin / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_readme_has_what_a_reader_looks_for(plugin: Path) -> None:
    text = (plugin / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.M) == ["Install", "Models", "Example", "Command line", "Recipes", "Links"]
    assert f"pip install . ./plugins/{plugin.name}" in text
    assert all((plugin / link).is_file() for link in re.findall(r"\]\((\.\.[^)]*)\)", text))
    assert not re.search(r"(?<!\w)/(home|root|tmp|work|Users)/", text)
    assert len(text.splitlines()) <= 70


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_python_in_a_readme_imports_what_exists(plugin: Path) -> None:
    shown = blocks(plugin, "python")
    assert shown
    for block in shown:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                assert all(importlib.import_module(alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sottovoce":
                module = importlib.import_module("sottovoce")
                assert hasattr(module, node.attr)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_command_in_a_readme_parses(plugin: Path) -> None:
    lines = [line for block in blocks(plugin, "sh") for line in block.splitlines() if line.startswith("sottovoce ")]
    assert lines
    for line in lines:
        _, verb, *arguments = shlex.split(line)
        context = click.Context(cli.cli, **cli.cli.context_settings)
        command = cli.cli.get_command(context, verb)
        assert command is not None, line
        assert command.make_context(verb, arguments, parent=context).params, line
        for recipe in re.findall(r"--recipe (\S+)", line):
            assert recipe in default_host().presets


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_readme_names_the_family_s_own_recipes(plugin: Path) -> None:
    package = f"sottovoce_{plugin.name.replace('-', '_')}"
    families = importlib.import_module(f"{package}.architectures").ARCHITECTURES
    text = (plugin / "README.md").read_text(encoding="utf-8")
    assert all(f"`{preset}`" in text for family in families for preset in family.presets)
    for name in re.findall(r"`(reap\w+|int\d[\w-]*|fp8|paraformer-int8-encoder)`", text):
        assert name in default_host().presets
