"""Samples as an argument: all that callers have at hand is taken, all else is refused by one clear line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sottovoce
from sottovoce import Sample, Samples
from sottovoce.errors import SamplesError, UsageError
from sottovoce.samples import as_samples

DATA = Path(__file__).parents[3] / "examples" / "data" / "mandarin-commands" / "test.jsonl"
ONE, TWO = Sample(key="a", text="a"), Sample(key="b", text="b")


@pytest.mark.parametrize("samples", [[ONE, TWO], (ONE, TWO), Samples((ONE, TWO)), {"a": ONE, "b": TWO}.values()])
def test_a_collection_of_samples_is_taken(samples: Any) -> None:
    assert as_samples(samples) == Samples((ONE, TWO))


def test_a_generator_of_samples_is_taken() -> None:
    assert as_samples(sample for sample in (ONE, TWO)) == Samples((ONE, TWO))


@pytest.mark.parametrize("path", [DATA, str(DATA)])
def test_a_manifest_is_read(path: str | Path) -> None:
    assert as_samples(path).path == DATA


def test_a_list_of_samples_is_identified_in_reports() -> None:
    read = sottovoce.read_samples(DATA)[:3]
    assert as_samples(list(read)).to_dict()["sha256"] == read.digest


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (None, "give a manifest's path, Samples, or a list of Sample, not NoneType"),
        (5, "not int"),
        (b"test.jsonl", "not bytes"),
        ({"a": ONE}, "not dict"),
        (ONE, "not Sample; put it in a list"),
    ],
)
def test_what_holds_no_samples_is_refused_in_one_line(samples: Any, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        as_samples(samples, "held_out")
    assert str(caught.value).startswith("held_out: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([], "there are no samples"),
        (Samples(()), "there are no samples"),
        ([ONE, ONE], "the key 'a' occurs twice"),
        (["a.wav"], "item 0 of the samples is of type str"),
        ([ONE, {"key": "b"}], "item 1 of the samples is of type dict"),
        (np.zeros(3), "item 0 of the samples is of type float64"),
    ],
)
def test_a_collection_that_a_manifest_could_not_be_is_refused(samples: Any, problem: str) -> None:
    with pytest.raises(SamplesError, match=problem):
        as_samples(samples)


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "check": lambda model, samples: sottovoce.check(model, samples),
    "compare": lambda model, samples: sottovoce.compare([model, f"{model}2"], samples),
    "compress": lambda model, samples: sottovoce.compress(sottovoce.load(model), "int4", samples),
    "diff": lambda model, samples: sottovoce.diff(model, model, samples, "a"),
    "evaluate": lambda model, samples: sottovoce.evaluate(model, samples),
    "export": lambda model, samples: sottovoce.export(model, "onnx", "outputs/x", samples=samples),
    "from_pretrained": lambda model, samples: sottovoce.from_pretrained(model, "int4", samples),
    "search": lambda model, samples: sottovoce.search(model, samples, "x0.3"),
}
"""Calls of the public functions that take samples, by name."""


def test_every_public_function_that_takes_samples_is_tried_below() -> None:
    functions = {name: getattr(sottovoce, name) for name in sottovoce.__all__}
    taking = {
        name
        for name, function in functions.items()
        if inspect.isfunction(function) and "samples" in inspect.signature(function).parameters
    }
    assert taking == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_every_public_function_refuses_what_holds_no_samples(name: str) -> None:
    model = str(DATA.parents[2] / "models" / "tiny-paraformer")
    with pytest.raises(UsageError, match="samples: give a manifest's path, Samples, or a list of Sample, not int"):
        CALLS[name](model, 5)
