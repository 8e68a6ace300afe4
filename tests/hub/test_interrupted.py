"""Ctrl-C while a hub hangs: the command ends at once, and goes on when it is given again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hub.loopback.client import environment
from hub.published import make_small
from hub.running import HUBS, NAME, TOKENS, Hub, run

WEIGHTS = r"model\.safetensors"
PROMPT = 5
"""Seconds within which a command ends, however slow the machine; the hub would be waited for ten minutes."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("compressed") / "small")


def start(hub: Hub, *arguments: str | Path) -> subprocess.Popen[str]:
    variable = "HF_TOKEN" if hub.kind == "hf" else "MODELSCOPE_API_TOKEN"
    variables = {variable: TOKENS[hub.kind], "SOTTOVOCE_HUB_TIMEOUT": "600", "HF_HUB_DOWNLOAD_TIMEOUT": "600"}
    return subprocess.Popen(
        [sys.executable, "-m", "sottovoce", *map(str, arguments), "--hub", hub.kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(hub.server, hub.home) | variables,
        # Where the tests run in the background, Ctrl-C is ignored by them and by what they start.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def end(command: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return command.communicate(timeout=60)
    finally:
        command.kill()


@pytest.mark.parametrize("kind", HUBS)
@pytest.mark.parametrize(
    ("verb", "how", "path"),
    [("pull", "stall", WEIGHTS), ("push", "silent", "/store/")],
)
def test_a_command_is_interrupted_at_once_and_goes_on_when_given_again(
    small: Path, tmp_path: Path, kind: str, verb: str, how: Any, path: str
) -> None:
    with run(kind, tmp_path / "hub", small if verb == "pull" else None) as hub:
        arguments = ("pull", NAME, "--output", tmp_path / "out") if verb == "pull" else ("push", small, NAME)
        fault = hub.server.fail(how, "GET" if verb == "pull" else "PUT", path, times=1000)
        with start(hub, *arguments) as command:
            while not fault.happened and command.poll() is None:
                time.sleep(0.05)
            time.sleep(0.3)
            sent = time.monotonic()
            command.send_signal(signal.SIGINT)
            _, said = end(command)
        assert time.monotonic() - sent < PROMPT
        assert command.returncode == 130, said
        assert "error: interrupted" in said.splitlines()[-1]
        assert not (tmp_path / "out").exists()
        hub.server.faults.clear()
        with start(hub, *arguments) as again:
            _, said = end(again)
        assert again.returncode == 0, said
