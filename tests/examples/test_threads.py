"""A program that loads, compresses and runs several models at once, as a server does."""

from __future__ import annotations

import random
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sottovoce
from sottovoce import Model, Sample, read_samples
from sottovoce.entrypoints.save import probe

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("tiny-paraformer", "tiny-aligner", "tiny-omni")
"""Of three families; the last is of another type than the others."""

Outputs = tuple[Tensor, Any]


def compressed(name: str, recipe: str | None) -> Model:
    model: Model = sottovoce.load(EXAMPLES / "models" / name)
    if recipe is not None:
        sottovoce.compress(model, recipe)
    return model


def sample_of(name: str) -> Sample:
    data = "omni-tasks" if name == "tiny-omni" else "mandarin-commands"
    return read_samples(EXAMPLES / "data" / data / "test.jsonl")[0]


def outputs(name: str, recipe: str | None) -> Outputs:
    """What a model gives for its probe and for a sample, loaded and compressed here."""
    model = compressed(name, recipe)
    prediction = model.architecture.runner.predict(model, sample_of(name))
    return probe(model), (prediction.text, prediction.tokens, prediction.timestamps)


def shared_state() -> dict[str, Any]:
    """What all threads of this process have in common and a library may have changed."""
    return {
        "Module": dict(vars(nn.Module)),
        "init": {name: getattr(torch.nn.init, name) for name in dir(torch.nn.init)},
        "torch": (torch.linspace, torch.set_default_dtype, torch.get_default_dtype, torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "standard output": (sys.stdout, sys.stderr),
        "filters": list(warnings.filters),
        "generators": (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()),
    }


@contextmanager
def layers_made_meanwhile() -> Iterator[list[Tensor]]:
    """The weights of layers that the program itself makes in another thread, again and again."""
    weights: list[Tensor] = []
    end = threading.Event()

    def make() -> None:
        while not end.wait(0.001):
            weights.append(nn.Linear(4, 4).weight.detach())

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(make)
        try:
            yield weights
        finally:
            end.set()
            future.result()


def assert_initialized(weights: list[Tensor]) -> None:
    assert len(weights) > 10
    for weight in weights:
        assert (weight.device.type, weight.dtype) == ("cpu", torch.float32)
        assert 0 < weight.abs().max() <= 0.5


@pytest.fixture(scope="module")
def expected() -> dict[tuple[str, str | None], Outputs]:
    """The outputs of models that were loaded one after another."""
    return {(name, recipe): outputs(name, recipe) for recipe in ("int8", None) for name in NAMES}


def test_loading_leaves_the_process_as_it_was(expected: Any) -> None:
    before = shared_state()
    for name in NAMES:
        compressed(name, "int8")
        assert shared_state() == before


@pytest.mark.parametrize(
    ("recipe", "rounds"),
    [("int8", 1), pytest.param("int8", 5, marks=pytest.mark.slow), pytest.param(None, 10, marks=pytest.mark.slow)],
)
def test_models_of_three_threads_give_what_they_give_alone(
    recipe: str | None, rounds: int, expected: dict[tuple[str, str | None], Outputs]
) -> None:
    before = shared_state()
    with layers_made_meanwhile() as weights, ThreadPoolExecutor(len(NAMES)) as threads:
        for _ in range(rounds):
            futures = {name: threads.submit(outputs, name, recipe) for name in NAMES}
            for name, future in futures.items():
                logits, prediction = future.result()
                assert logits.equal(expected[name, recipe][0]), name
                assert prediction == expected[name, recipe][1], name
    assert_initialized(weights)
    after = shared_state()
    # Layers draw their weights.
    assert {key: after[key] for key in after if key != "generators"} == {
        key: before[key] for key in before if key != "generators"
    }
