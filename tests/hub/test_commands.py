"""``sottovoce push`` and ``pull`` in a process of their own, against both hubs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from forked import HUB_CLIENTS, run_module
from hub.loopback.client import environment
from hub.loopback.hugging_face import Account, hugging_face
from hub.loopback.modelscope import modelscope
from hub.loopback.server import Loopback
from hub.published import make_small

TOKENS = {"hf": ("HF_TOKEN", "hf_alice0secret"), "modelscope": ("MODELSCOPE_API_TOKEN", "ms-11111111-aaaa")}


def sottovoce(
    server: Loopback, home: Path, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return run_module("sottovoce", *arguments, environment=environment(server, home) | variables, imports=HUB_CLIENTS)


@pytest.mark.parametrize("kind", TOKENS)
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    small, pulled = make_small(tmp_path / "small"), tmp_path / "pulled"
    variable, token = TOKENS[kind]
    serve: Any = hugging_face if kind == "hf" else modelscope
    with serve(**{token: Account(name="alice")}) as (server, _):
        home = tmp_path / "home"
        refused = sottovoce(server, home, "push", small, "alice/toy", "--hub", kind)
        assert refused.returncode == 1
        assert refused.stdout == ""
        assert refused.stderr.startswith("error: alice/toy: ")
        assert refused.stderr.count("\n") == 1
        logged_in = {variable: token}
        done = sottovoce(server, home, "push", small, "alice/toy", "--hub", kind, "--private", "--json", **logged_in)
        assert done.returncode == 0, done.stderr
        form = json.loads(done.stdout)
        assert form["created"]
        assert form["url"].startswith(server.address)
        assert token not in done.stdout + done.stderr
        again = sottovoce(server, home, "push", small, "alice/toy", "--hub", kind, "--json", **logged_in)
        assert json.loads(again.stdout)["uploaded"] == []
        stranger = sottovoce(server, tmp_path / "other", "pull", "alice/toy", "--hub", kind, "-o", pulled)
        assert stranger.returncode == 1
        assert stranger.stderr.startswith("error: alice/toy: could not be fetched")
        assert not pulled.exists()
        fetched = sottovoce(
            server, tmp_path / "other", "pull", "alice/toy", "--hub", kind, "-o", pulled, "--json", **logged_in
        )
        assert fetched.returncode == 0, fetched.stderr
        assert json.loads(fetched.stdout)["verified"]
    assert (pulled / "model.safetensors").read_bytes() == (small / "model.safetensors").read_bytes()
