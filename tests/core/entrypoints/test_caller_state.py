"""What a caller has set for the whole process is the same after every call."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce import Model, Samples

EXAMPLES = Path(__file__).parents[3] / "examples"
MODEL = EXAMPLES / "models" / "tiny-paraformer"
FINE_TUNE = {"steps": [{"step": "fine_tune", "epochs": 1}]}

CALLS: dict[str, Callable[[Model, Samples, Path], Any]] = {
    "compress int8": lambda model, samples, path: sottovoce.compress(model, "int8"),
    "compress int4": lambda model, samples, path: sottovoce.compress(model, "int4", samples),
    "fine-tune": lambda model, samples, path: sottovoce.compress(model, FINE_TUNE, training_samples=samples),
    "evaluate": lambda model, samples, path: sottovoce.evaluate(model, samples[:2]),
    "save": lambda model, samples, path: sottovoce.save(model, path / "saved"),
    "inspect": lambda model, samples, path: sottovoce.inspect(MODEL, "int8"),
    "load": lambda model, samples, path: sottovoce.load(MODEL),
}


def state() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch's numbers": bytes(torch.get_rng_state().numpy()),
        "NumPy's numbers": bytes(np.random.get_state()[1]),  # type: ignore[index]
        "Python's numbers": random.getstate(),
        "directory": Path.cwd(),
        "logging": (logging.root.level, logging.root.manager.disable, list(logging.root.handlers)),
        "showwarning": warnings.showwarning,
    }


@pytest.fixture(scope="module")
def samples() -> Samples:
    return sottovoce.read_samples(EXAMPLES / "data" / "mandarin-commands" / "calibration.jsonl")[:16]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_state_of_the_process_as_it_was(name: str, samples: Samples, tmp_path: Path) -> None:
    model = sottovoce.load(MODEL)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = state()
    CALLS[name](model, samples, tmp_path)
    assert state() == before


def test_an_error_leaves_the_numbers_that_follow_as_they_were(samples: Samples) -> None:
    torch.manual_seed(5)
    before = state()
    with pytest.raises(sottovoce.SottovoceError):
        sottovoce.compress(sottovoce.load(MODEL), "edge", samples[:2])
    assert state() == before
