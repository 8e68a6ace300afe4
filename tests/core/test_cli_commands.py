"""Commands that plugins bring to the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import pytest

import sottovoce
from core.commands import Runner, host_runner
from core.distributions import install
from core.toy import make_host
from sottovoce.cli.output import Output, verb
from sottovoce.errors import SamplesError
from sottovoce.plugins.host import Host

BROKEN = """
import sottovoce
@sottovoce.hookimpl
def sottovoce_commands():
    import nowhere_to_be_found
"""


class Commanding:
    """A plugin with one command."""

    def __init__(self, name: str) -> None:
        self.name = name

    @sottovoce.hookimpl
    def sottovoce_commands(self) -> Iterable[click.Command]:
        @click.command(self.name, help="Count to NUMBER.")
        @click.argument("number", type=int)
        @verb
        def count(out: Output, number: int) -> None:
            if number < 0:
                raise SamplesError(f"{number}: nobody counts there")
            out.note("counting")
            print("a library's own words")
            out.result({"numbers": list(range(number))}, lambda: f"up to {number}")

        return [count]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return host_runner(monkeypatch, capfd, make_host(Commanding("count")))


def test_command_of_a_plugin_behaves_as_core_s_do(run: Runner) -> None:
    done = run("count", "2", "--json")
    assert done.json == {"numbers": [0, 1]}
    assert done.err == "counting\na library's own words\n"
    assert run("count", "2", "--quiet").out == "up to 2\n"
    run("count", "--quiet", "--", "-1").fails(1, "-1: nobody counts there")
    run("count", "many").fails(2, "Invalid value for 'NUMBER'")
    run("cuont", "2").fails(2, "No such command 'cuont'", "see sottovoce --help")


def test_command_of_a_plugin_is_in_the_help_behind_core_s(run: Runner) -> None:
    assert run("--help").out.split("\n\nCommands of plugins:\n")[1].split()[0] == "count"
    assert "Count to NUMBER." in run("count", "--help").out


@pytest.mark.parametrize("arguments", [("--help",), ("count", "2")])
@pytest.mark.parametrize("names", [("count", "compress"), ("count", "count")])
def test_name_that_is_taken_is_one_line_that_names_both(
    names: tuple[str, str],
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    clashing = host_runner(monkeypatch, capfd, make_host(*map(Commanding, names)))
    owner = "sottovoce itself" if "compress" in names else "plugin-0"
    clashing(*arguments).fails(1, f"the command {names[1]!r}", "plugin-1", owner)


def test_plugin_whose_commands_fail_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "broken_commands", BROKEN, monkeypatch)
    host = Host(allow=["broken_commands"])
    host.register(Commanding("count"), "counting")
    run = host_runner(monkeypatch, capfd, host)
    done = run("--help")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.err.startswith("warning: plugin broken_commands is skipped: ModuleNotFoundError: ")
    assert "count" in done.out
    assert "nowhere_to_be_found" in run("plugins", "--json").json["plugins"][0]["error"]
    assert run("count", "2", "--json").json == {"numbers": [0, 1]}


def test_skipped_plugin_is_not_named_when_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "broken_commands_too", BROKEN, monkeypatch)
    host = Host(allow=["broken_commands_too"])
    host.register(Commanding("count"), "counting")
    assert "broken" not in host_runner(monkeypatch, capfd, host)("count", "2", "--quiet").err
