"""A function in a process of its own: what goes wrong there is told here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sottovoce.errors import SottovoceError
from sottovoce.evaluation import measured
from sottovoce.isolation import run_isolated
from sottovoce.samples import Samples


def nothing(*report: Any) -> None:
    raise AssertionError(report)


def test_an_error_of_ours_comes_back_as_it_is() -> None:
    with pytest.raises(SottovoceError, match="none: no such directory"):
        run_isolated(measured, "none", Samples(()), None, {}, progress=nothing)


def test_an_error_of_another_comes_back_with_where_it_was() -> None:
    with pytest.raises(RuntimeError, match="TypeError: .*progress") as caught:
        run_isolated(json.dumps, 1, progress=nothing)
    assert "Traceback" in caught.value.__notes__[0]


def test_a_result_that_cannot_come_back_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="pickle"):
        run_isolated(dict, progress=nothing)
