"""The sample distribution, found through its entry point as if pip had installed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.commands import Runner, host_runner
from core.distributions import install_project
from core.toy import ToyPlugin
from sottovoce.plugins.host import Host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with the toy family and the sample's plugin."""
    install_project(Path(__file__).with_name("distribution"), tmp_path / "site", monkeypatch)
    installed = Host(allow=("sparsity",))
    installed.register(ToyPlugin(), "toy")
    return installed


@pytest.fixture
def run(host: Host, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    """The command line where the sample is installed."""
    return host_runner(monkeypatch, capfd, host)
