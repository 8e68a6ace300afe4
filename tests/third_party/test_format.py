"""An export format of a third party looks like core's: in help, errors, lists and cards, and it is checked."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

import sottovoce
from core.commands import Runner
from core.toy import make_model
from sottovoce.plugins.host import Host
from third_party.cards import cards


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


def test_export_writes_the_model_in_it(run: Runner, host: Host, source: Path, tmp_path: Path) -> None:
    files = run("export", source, "--format", "npz", "--output", tmp_path / "out", "--json").json["files"]
    assert "weights.npz" in files
    with numpy.load(tmp_path / "out" / "weights.npz") as arrays:
        written = {name: arrays[name].tolist() for name in arrays.files}
    state = sottovoce.load(source, host=host).module.state_dict()
    assert written == {name: state[name].tolist() for name in state}


def test_help_and_list_name_it(run: Runner) -> None:
    assert "npz" in run("export", "--help").out
    assert run("plugins", "--json").json["formats"]["npz"] == "weights as NumPy arrays"


def test_unknown_format_error_lists_it(run: Runner, source: Path, tmp_path: Path) -> None:
    done = run("export", source, "--format", "nps", "--output", tmp_path / "out")
    done.fails(2, "as 'nps'; formats for this model: native, npz")


def test_check_that_fails_leaves_nothing(
    run: Runner, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy, "isfinite", lambda array: numpy.zeros(1, dtype=bool))
    run("export", source, "--format", "npz", "--output", tmp_path / "out").fails(1, "is not finite")
    assert not (tmp_path / "out").exists()


def test_cards_show_how_to_use_it(run: Runner, source: Path, tmp_path: Path) -> None:
    run("compress", source, "--recipe", "int8", "--output", tmp_path / "small")
    for card in cards(tmp_path / "small"):
        assert "--format npz" in card
        assert "weights.npz" in card
