"""Paths as arguments: the home directory by its short name, and one clear line for what is no path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from sottovoce.errors import UsageError
from sottovoce.system.path_argument import as_name, as_path, as_path_or_none

EXAMPLES = Path(__file__).parents[3] / "examples"
MODEL = EXAMPLES / "models" / "tiny-paraformer"
DATA = EXAMPLES / "data" / "mandarin-commands" / "test.jsonl"


@pytest.mark.parametrize("path", ["a/b", Path("a/b")])
def test_a_path_is_taken_in_both_forms(path: Any) -> None:
    assert as_path(path, "output") == Path("a/b")


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/a", "output") == as_path(Path("~/a"), "output") == tmp_path / "a"
    assert as_path("a/~", "output") == Path("a/~")


def test_nothing_is_no_path() -> None:
    assert as_path_or_none(None, "cache") is None


def test_a_name_is_left_as_it_is() -> None:
    assert as_name("owner/name", "source", "a directory") == "owner/name"


CALLS: dict[str, Callable[[Any], Any]] = {
    "check": lambda value: sottovoce.check(value, DATA),
    "check reference": lambda value: sottovoce.check(MODEL, DATA, reference=value),
    "compare": lambda value: sottovoce.compare(value, DATA, recipes=["int8"], output="outputs/x"),
    "compare several": lambda value: sottovoce.compare([MODEL, value], DATA),
    "diff": lambda value: sottovoce.diff(MODEL, value, DATA, "test-0000"),
    "inspect": lambda value: sottovoce.inspect(value),
    "load": lambda value: sottovoce.load(value),
    "read_samples": lambda value: sottovoce.read_samples(value),
    "from_pretrained": lambda value: sottovoce.from_pretrained(value),
    "transcribe": lambda value: sottovoce.transcribe(value, DATA),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", [5, b"model", [5], object()])
def test_what_is_no_path_or_name_is_refused_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=r": give (a path|a directory, an alias or a hub id), not "):
        CALLS[name](value)


def test_a_model_in_memory_is_no_directory() -> None:
    model = sottovoce.load(MODEL)
    for call in (sottovoce.load, sottovoce.inspect):
        with pytest.raises(UsageError, match="not a model in memory; save it first"):
            call(model)  # type: ignore[operator]
    with pytest.raises(UsageError, match="models: .* not a model in memory"):
        sottovoce.compare([model, MODEL], DATA)  # type: ignore[list-item]


@pytest.mark.parametrize("call", [sottovoce.save, lambda model, path: sottovoce.export(model, "onnx", path)])
@pytest.mark.parametrize("path", [None, 5, b"out"])
def test_an_output_that_is_no_path_is_refused(call: Any, path: Any) -> None:
    with pytest.raises(UsageError, match="directory: give a path, not "):
        call(sottovoce.load(MODEL), path)
