"""What a sample distribution of somebody else adds looks like what is Sottovoce's own: its command."""

from __future__ import annotations

from pathlib import Path

import pytest

import sottovoce
from core.commands import Runner
from core.toy import make_model
from sottovoce.plugins.host import Host


def test_plugin_is_found_through_its_entry_point(host: Host) -> None:
    plugin = next(plugin for plugin in host.plugins if plugin.name == "sparsity")
    assert (plugin.distribution, plugin.version, plugin.error) == ("sottovoce-sparsity", "0.1.0", None)


def test_command_is_listed_beside_core_s(run: Runner) -> None:
    listed = run("--help").out
    assert "  sparsity  Show the share of zeros in each tensor of MODEL." in listed
    assert "  compress  Compress MODEL" in listed
    assert run("plugins", "--json").json["commands"] == ["sparsity"]
    assert "sparsity  Show the share of zeros in each tensor of MODEL." in run("plugins").out


def test_command_has_what_every_command_has(run: Runner, host: Host, tmp_path: Path) -> None:
    source = make_model(tmp_path / "toy")
    tensors = sottovoce.load(source, host=host).module.state_dict()
    zeros = {name: float((tensor == 0).float().mean()) for name, tensor in tensors.items()}
    assert run("sparsity", source, "--json").json == {"zeros": pytest.approx(zeros)}
    assert "blocks.0.weight" in run("sparsity", source).out
    run("sparsity", tmp_path / "none").fails(1, "none: no such directory")
