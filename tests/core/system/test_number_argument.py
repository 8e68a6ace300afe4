"""Numbers as arguments: what is none, or makes no sense, is refused before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sottovoce
from sottovoce.errors import UsageError
from sottovoce.system.number_argument import as_count, as_limits

EXAMPLES = Path(__file__).parents[3] / "examples"
MODEL = EXAMPLES / "models" / "tiny-paraformer"
DATA = EXAMPLES / "data" / "mandarin-commands" / "test.jsonl"


@pytest.mark.parametrize("count", [16, 16.0, np.int64(16), np.float64(16)])
def test_a_whole_number_of_any_type_is_taken(count: Any) -> None:
    assert as_count(count, "count") == 16


@pytest.mark.parametrize("count", [None, "16", 0, -1, 2.5, True, float("nan"), [16]])
def test_what_is_not_a_whole_number_is_refused(count: Any) -> None:
    with pytest.raises(UsageError, match="count=.*: give a whole number of at least 1"):
        as_count(count, "count")


def test_limits_are_numbers_by_name() -> None:
    assert as_limits(None) == {}
    assert as_limits({"max_cer": 5}) == {"max_cer": 5}


@pytest.mark.parametrize("limits", [5, "max_cer=5", ["max_cer"], {"max_cer": "5"}, {"max_cer": None}])
def test_limits_of_another_type_are_refused(limits: Any) -> None:
    with pytest.raises(UsageError, match="limits: "):
        as_limits(limits)


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "check count": (sottovoce.check, {"count": "16"}, "count='16'"),
    "check rounds": (sottovoce.check, {"rounds": 0}, "rounds='0'"),
    "check limits": (sottovoce.check, {"limits": ["max_cer"]}, "limits: give a mapping"),
    "check engine": (sottovoce.check, {"engines": "nosuch"}, "there is no engine 'nosuch'"),
    "search budget": (sottovoce.search, {"budget": 2.4}, "the budget '2.4' has no unit"),
    "search no budget": (sottovoce.search, {"budget": None}, "'None' is not a budget"),
    "search steps": (sottovoce.search, {"budget": "x0.3", "steps": 5}, "steps: give names of steps, not int"),
    "search step": (sottovoce.search, {"budget": "x0.3", "steps": "nosuch"}, "'nosuch' is not a step of a search"),
    "search limits": (sottovoce.search, {"budget": "x0.3", "limits": {"max_cer": "5"}}, "max_cer must be a number"),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_numbers_are_refused_before_any_work(name: str) -> None:
    call, options, problem = CALLS[name]
    with pytest.raises(UsageError, match=problem):
        call(MODEL, DATA, **options)


def test_memory_in_words_is_refused() -> None:
    with pytest.raises(UsageError, match="max_memory='8GB': give a whole number"):
        sottovoce.compress(sottovoce.load(MODEL), "int4", DATA, max_memory="8GB")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"format": ["onnx"]}, {"format": "onnx", "count": 0}])
def test_an_export_of_nothing_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format: give the name|count='0'"):
        sottovoce.export(MODEL, directory=tmp_path / "out", **options)


def test_a_key_that_is_not_a_text_is_refused() -> None:
    with pytest.raises(UsageError, match="key: give the key of a sample, not int"):
        sottovoce.diff(MODEL, MODEL, DATA, 5)  # type: ignore[arg-type]
