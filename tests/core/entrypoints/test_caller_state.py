"""What a caller has set for the whole process is the same after every call."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
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
PRUNE = {"steps": [{"step": "prune_width", "keep": 0.75, "score": "magnitude"}]}
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


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("recipe", [FINE_TUNE, PRUNE])
def test_a_model_is_trained_and_pruned_in_a_block_without_gradients(
    mode: Callable[[], Any], recipe: dict[str, Any], samples: Samples
) -> None:
    with mode():
        model = sottovoce.load(MODEL)
        sottovoce.compress(model, recipe, samples)
    assert not any(parameter.is_inference() for parameter in model.module.parameters())


def test_a_model_that_its_owner_trains_is_measured_and_saved_as_it_will_run(samples: Samples, tmp_path: Path) -> None:
    loaded, trained = sottovoce.load(MODEL), sottovoce.load(MODEL)
    trained.module.train()
    expected, measured = (sottovoce.evaluate(model, samples[:8]) for model in (loaded, trained))
    assert measured.metrics["cer"].value == expected.metrics["cer"].value
    sottovoce.compress(trained, "int8")
    sottovoce.save(trained, tmp_path / "saved")
    assert trained.module.training
    assert not loaded.module.training


def test_a_model_is_loaded_without_muting_the_warnings_of_others() -> None:
    code = (
        f"import logging, sottovoce; model = sottovoce.load({str(MODEL)!r})\n"
        "import numpy; model.native.generate(numpy.zeros(16000, dtype=numpy.float32))\n"
        "print(logging.root.level, logging.root.handlers); logging.getLogger('mine').warning('heard')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "30 []"
    assert "heard" in done.stderr


def test_an_error_leaves_the_numbers_that_follow_as_they_were(samples: Samples) -> None:
    torch.manual_seed(5)
    before = state()
    with pytest.raises(sottovoce.SottovoceError):
        sottovoce.compress(sottovoce.load(MODEL), "edge", samples[:2])
    assert state() == before


def test_a_model_and_samples_outlive_a_change_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    model = sottovoce.load("models/tiny-paraformer")
    samples = sottovoce.read_samples("data/mandarin-commands/test.jsonl")[:1]
    monkeypatch.chdir(tmp_path)
    sottovoce.compress(model, "int8")
    assert sottovoce.save(model, "saved") == Path("saved")
    assert sottovoce.evaluate(model, samples).metrics["cer"].value == 0
    assert sottovoce.load("saved").report.source.name == "tiny-paraformer"  # type: ignore[union-attr]
