"""Every block of the documentation runs, or is valid and says why it does not run here."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from docs.conftest import runnable_blocks
from docs.pages import Block, all_pages

BLOCKS = [block for page in all_pages() for block in page.blocks]
LANGUAGES = {"sh", "console", "python", "yaml", "json", "toml", "text"}
Results = dict[str, list[dict[str, object]]]


def name(block: Block) -> str:
    return block.name


def of_language(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def words(text: str) -> set[str]:
    """Return the words of a text; numbers, which differ by the machine, are left out."""
    return set(re.findall(r"\b[^\W\d_]{2,}\b", text))


def check(block: Block, results: Results) -> None:
    for result in results[block.name]:
        expected = {0, 1, 2} if "error:" in block.output else {0}
        assert result["code"] in expected, result["output"]
    if block.language == "console" and results[block.name]:
        shown = "".join(str(result["output"]) for result in results[block.name])
        missing = words(block.output) - words(shown)
        assert not missing, f"{block.name}: {sorted(missing)} is not in the output:\n{shown}"


@pytest.mark.parametrize("block", runnable_blocks(), ids=name)
def test_block_on_shortened_data_runs_and_prints_its_output(block: Block, results: Results) -> None:
    check(block, results)


@pytest.mark.slow
@pytest.mark.parametrize("block", runnable_blocks(), ids=name)
def test_block_on_all_data_runs_and_prints_its_output(block: Block, full_results: Results) -> None:
    check(block, full_results)


def test_output_block_after_python_is_what_the_python_printed(results: Results) -> None:
    pairs = [
        (before, after)
        for page in all_pages()
        for before, after in zip(page.blocks, page.blocks[1:], strict=False)
        if before.language == "python" and not before.reason and after.language == "text"
    ]
    assert pairs
    for before, after in pairs:
        if not results[before.name]:
            continue
        shown = str(results[before.name][0]["output"])
        assert words(after.code) <= words(shown), f"{after.name}: {shown}"


def test_languages_of_blocks_are_known() -> None:
    assert {block.language for block in BLOCKS} <= LANGUAGES, [
        block.name for block in BLOCKS if block.language not in LANGUAGES
    ]


@pytest.mark.parametrize("block", of_language("sh", "console"), ids=name)
def test_command_has_only_options_that_exist(block: Block) -> None:
    from sottovoce.cli import cli

    context = click.Context(cli, info_name="sottovoce", **cli.context_settings)
    assert block.commands
    for program, *arguments in block.commands:
        if program != "sottovoce" or not arguments or arguments[0].startswith("-"):
            continue
        command = cli.get_command(context, arguments[0])
        assert command is not None, arguments
        below = click.Context(command, info_name=arguments[0], parent=context)
        parsed, rest, _ = command.make_parser(below).parse_args(list(arguments[1:]))
        assert not rest, f"{arguments}: {rest}"
        required = [parameter.name for parameter in command.get_params(below) if parameter.required]
        assert "help" in parsed or not [name for name in required if parsed.get(name) in (None, ())], arguments


@pytest.mark.parametrize("block", of_language("python"), ids=name)
def test_python_compiles_and_imports_names_that_exist(block: Block) -> None:
    tree = ast.parse(block.code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sottovoce") and not node.level:
            root = (node.module or "").split(".")[0]
            if block.reason and importlib.util.find_spec(root) is None:
                continue  # the sample plugins, which their own tests install
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sottovoce":
            assert hasattr(importlib.import_module("sottovoce"), node.attr), ast.unparse(node)


@pytest.mark.parametrize("block", of_language("yaml"), ids=name)
def test_yaml_is_a_valid_recipe(block: Block, tmp_path: Path) -> None:
    from sottovoce import Recipe

    assert "steps" in yaml.safe_load(block.code)
    if block.reason:
        return
    path = tmp_path / "recipe.yaml"
    path.write_text(block.code, encoding="utf-8")
    assert Recipe.read(path).steps


@pytest.mark.parametrize("block", of_language("json", "toml"), ids=name)
def test_data_block_is_valid(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.code)
        return
    try:
        assert json.loads(block.code)
    except json.JSONDecodeError:
        assert all(json.loads(line) for line in block.code.splitlines())


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.name)
def test_page_makes_every_output_that_it_uses(page: object) -> None:
    """A reader may begin at any page: what it takes from ``outputs/``, a command above has written."""
    written: set[str] = set()
    for block in page.blocks:  # type: ignore[attr-defined]
        if block.reason:
            continue
        if block.language == "python":
            written |= set(re.findall(r'(?:save|export)\(.*?"(outputs/[\w./-]+)"', block.code))
            used = set(re.findall(r'"(outputs/[\w./-]+)"', block.code))
        else:
            pairs = [pair for command in block.commands for pair in zip(command, command[1:], strict=False)]
            written |= {value for option, value in pairs if option in ("--output", "-o")}
            used = {value for command in block.commands for value in command if value.startswith("outputs/")}
        below = {path for path in used for folder in written if path.startswith(f"{folder}/")}
        assert used <= written | below | {"outputs"}, f"{block.name} uses {sorted(used - written)}"


def test_blocks_that_do_not_run_are_few_and_say_why() -> None:
    left_out = [block for block in BLOCKS if block.reason and block.language in ("sh", "console", "python")]
    running = runnable_blocks()
    assert len(left_out) < len(running)
    assert [block.name for block in left_out if len(block.reason.split()) < 3] == []
