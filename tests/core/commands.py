"""The command line in this process and in one of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.toy import make_host
from sottovoce import cli
from sottovoce.plugins import host
from sottovoce.runtime.backends import int8_engine


@dataclass
class Done:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output."""
        assert self.code == 0, self.err
        assert self.out.endswith("\n")
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    def fails(self, code: int, *parts: str) -> None:
        """Check that it failed with one line on standard error that has ``parts`` in it, and nothing else."""
        assert self.code == code, (self.out, self.err)
        assert self.out == ""
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        for part in parts:
            assert part in self.err


class Runner:
    """Runs the command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *arguments: str | Path) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["sottovoce", *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        environment = dict(os.environ)
        if not os.environ.get(int8_engine.ENGINE_VARIABLE):
            int8_engine.engine()  # warns once where the CPU has no instructions for int8, and not within the command
        self._capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as caught:
                cli.main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.environ.clear()
            os.environ.update(environment)
        captured = self._capfd.readouterr()
        assert isinstance(caught.value.code, int)
        return Done(caught.value.code, captured.out, captured.err)


def toy_runner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], plugin: object) -> Runner:
    """A runner whose one plugin of a family is this one."""
    return host_runner(monkeypatch, capfd, make_host(plugin))


def host_runner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], plugins: host.Host) -> Runner:
    """A runner with the plugins of this host."""
    modules = ("load", "compress", "save", "inspect", "evaluate", "measurement", "search", "compare", "diff", "export")
    for module in (*modules, "comparison.evaluation"):
        monkeypatch.setattr(f"sottovoce.entrypoints.{module}.default_host", lambda: plugins)
    monkeypatch.setattr(
        "sottovoce.entrypoints.evaluate.run_isolated",
        lambda function, *arguments, progress: function(*arguments, host=plugins),
    )
    monkeypatch.setattr(
        "sottovoce.entrypoints.paired_timing.isolated",
        lambda prepare, *arguments: contextlib.nullcontext(prepare(*arguments, host=plugins)),
    )
    # Last: a module that is imported meanwhile would keep this function.
    monkeypatch.setattr(host, "default_host", lambda: plugins)
    return Runner(monkeypatch, capfd)


def command(*arguments: str | Path, environment: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> Done:
    """Run ``python -m sottovoce`` in a process of its own."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "sottovoce", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | (environment or {}),
    )
    return Done(done.returncode, done.stdout, done.stderr)
