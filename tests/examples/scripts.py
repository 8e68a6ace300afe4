"""Starting the scripts of ``examples`` in this process, which has imported their libraries for other tests."""

from __future__ import annotations

import runpy
import sys
import warnings
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def help_of(script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a script prints for ``--help``, after all that it imports."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    capsys.readouterr()
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ending:
        warnings.simplefilter("ignore")
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert not ending.value.code
    return capsys.readouterr().out
