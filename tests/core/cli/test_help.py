"""Help of the commands: sections, defaults, examples; and what a shell completes."""

from __future__ import annotations

import shlex

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from sottovoce.cli import cli
from sottovoce.cli.command import Command, Option, sections


def context_of(command: click.Command, name: str) -> click.Context:
    root = click.Context(cli, info_name="sottovoce", **cli.context_settings)
    return click.Context(command, info_name=name, parent=root)


def verbs() -> dict[str, Command]:
    root = click.Context(cli, info_name="sottovoce", **cli.context_settings)
    commands = {name: cli.get_command(root, name) for name in cli.list_commands(root)}
    return {name: command for name, command in commands.items() if isinstance(command, Command)}


VERBS = verbs()


def test_bare_command_prints_the_verbs_by_sections() -> None:
    shown = CliRunner().invoke(cli, []).output
    begin, compress, measure, use = (
        shown.index(f"\n{title}:") for title in ("Begin", "Compress", "Measure", "Use and publish")
    )
    assert begin < shown.index("\n  demo ") < compress < shown.index("\n  search ") < measure
    assert measure < shown.index("\n  evaluate ") < use < shown.index("\n  push ")


def test_every_verb_has_examples_and_a_section() -> None:
    assert {"compress", "evaluate", "align", "recipes"} <= set(VERBS)
    for name, verb in VERBS.items():
        assert verb.examples, name
        assert verb.section != "Commands of plugins", name


@pytest.mark.parametrize("example", [example for verb in VERBS.values() for example in verb.examples])
def test_example_is_what_the_verb_takes(example: str) -> None:
    program, name, *arguments = shlex.split(example.partition(" > ")[0])
    assert program == "sottovoce"
    VERBS[name].make_context(name, arguments, parent=context_of(cli, "sottovoce").parent)


def test_example_with_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(click.NoSuchOption):
        VERBS["compress"].make_context("compress", ["MODEL", "--output", "SMALL", "--nothing"])


def test_sections_of_the_model_and_the_output_come_last() -> None:
    titles = [title for title, _ in sections(VERBS["compress"], context_of(VERBS["compress"], "compress"))]
    assert titles == ["Options", "Data", "Training", "Model", "Output"]


def test_option_without_a_section_is_among_the_options() -> None:
    command = Command("toy", params=[click.Option(["--plain"]), Option(["--own"], section="Mine")])
    shown = dict(sections(command, click.Context(command, help_option_names=["--help"])))
    assert [record[0] for record in shown["Options"]] == ["--plain TEXT"]
    assert [record[0] for record in shown["Mine"]] == ["--own TEXT"]
    assert [record[0] for record in shown["Output"]] == ["--help"]


def test_help_shows_defaults() -> None:
    for verb, default in (("compress", "[default: cpu]"), ("search", "[default: quantize,cast]")):
        assert default in " ".join(CliRunner().invoke(cli, [verb, "--help"]).output.split())


@pytest.mark.parametrize(
    ("arguments", "incomplete", "expected"),
    [
        ([], "com", "compress"),
        ([], "ali", "align"),
        (["compress", "MODEL", "--recipe"], "int8-", "int8-gptq"),
        (["recipes"], "ed", "edge"),
        (["inspect", "MODEL", "--recipe"], "reap", "reap50"),
        (["export", "MODEL", "--format"], "on", "onnx"),
        (["compress", "MODEL", "--for"], "mo", "mobile"),
        (["compare", "MODEL", "--recipes"], "int8,int4", "int8,int4-awq"),
        (["compare", "MODEL", "--recipes"], "fp", "fp8"),
        (["search", "MODEL", "--steps"], "quantize=2,3,pr", "quantize=2,3,prune_width"),
        (["search", "MODEL", "--steps"], "quantize,c", "quantize,cast"),
        (["check", "DIRECTORY", "--engine"], "sotto", "sottovoce"),
    ],
)
def test_shell_completes_names(arguments: list[str], incomplete: str, expected: str) -> None:
    complete = BashComplete(cli, {}, "sottovoce", "_SOTTOVOCE_COMPLETE")
    assert expected in [item.value for item in complete.get_completions(arguments, incomplete)]


def test_shell_does_not_offer_a_recipe_of_the_list_again() -> None:
    complete = BashComplete(cli, {}, "sottovoce", "_SOTTOVOCE_COMPLETE")
    offered = [item.value for item in complete.get_completions(["compare", "MODEL", "--recipes"], "int8,int8")]
    assert "int8,int8-gptq" in offered
    assert "int8,int8" not in offered
