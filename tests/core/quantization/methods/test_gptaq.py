"""GPTAQ against least squares, and models rounded by it against those by GPTQ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sottovoce
from core.drawn import correlated, linear, moments, normal
from core.toy import LETTERS, ToyPlugin, forward, make_host, make_model
from sottovoce import Model, Sample, Samples
from sottovoce.quantization.methods.gptaq import GPTAQ
from sottovoce.quantization.methods.gptq import GPTQ
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import compute_qparams

SAMPLES = Samples(tuple(Sample(key=str(n), text=LETTERS[n:] + LETTERS[: n + 3]) for n in range(8)))
HOST = make_host(ToyPlugin(inputs=("text",)))


def drifted(seed: int = 0) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """A layer, inputs that reach it now, its outputs for the inputs of before, and what the outputs lack."""
    layer, x = linear(96, 40), correlated(400, 96, seed=seed)
    with torch.no_grad():
        before = layer(x + 0.1 * x.roll(1, 1) + 0.05 * normal(400, 96, seed=seed + 5))
        lacking = before - layer(x)
    return layer, x, before, lacking


@pytest.mark.parametrize("seed", range(3))
def test_corrected_weight_is_that_of_least_squares(seed: int) -> None:
    layer, x, before, lacking = drifted(seed)
    with torch.no_grad():
        wanted = torch.linalg.lstsq(x.double(), (before - layer.bias).double()).solution.t()
        weight = layer.weight.detach()
        corrected = GPTAQ(drift_damping=1e-7).correct(weight, moments(x), lacking.t() @ x / len(x))
    assert torch.allclose(corrected.double(), wanted, atol=1e-3)
    assert not torch.allclose(weight.double(), wanted, atol=1e-2)


def test_alpha_takes_up_a_share_of_the_drift() -> None:
    layer, x, _, lacking = drifted()
    weight, drift = layer.weight.detach(), (lacking.t() @ x / len(x)).detach()
    whole = GPTAQ().correct(weight, moments(x), drift) - weight
    half = GPTAQ(alpha=0.5).correct(weight, moments(x), drift) - weight
    assert torch.allclose(half, whole / 2, atol=1e-6)
    assert float(whole.abs().max()) > 1e-3


def test_moments_of_no_matrix_that_can_be_inverted_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="cannot be inverted"):
        GPTAQ().correct(normal(4, 8), -torch.eye(8), normal(4, 8))


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("seed", range(3))
def test_rounded_layer_is_nearer_to_its_outputs_of_before_than_by_gptq(seed: int, bits: int) -> None:
    layer, x, before, lacking = drifted(seed)
    layer.requires_grad_(False)
    weight, hessian, scheme = layer.weight, moments(x), Scheme(bits=bits, group_size=32)
    target = GPTAQ().correct(weight, hessian, lacking.t() @ x / len(x))

    def error(weight: Tensor, method: GPTQ) -> float:
        qparams = compute_qparams(weight, scheme, search=True)
        rounded = qparams.dequantize(method.quantize(weight, qparams, hessian))
        return float((before - x @ rounded.t() - layer.bias).square().mean())

    assert error(target, GPTAQ()) < 0.8 * error(weight, GPTQ())


def compressed(source: Path, method: str, limit: int | None = None, **fields: Any) -> Model:
    """A toy, compressed in blocks of one layer."""
    recipe = {"steps": [{"step": "quantize", "method": method, "bits": 2, "group_size": 8, **fields}]}
    model = sottovoce.load(source, host=HOST)
    sottovoce.compress(model, recipe, SAMPLES, max_memory=limit, host=HOST)
    return model


def distance(model: Model, original: Model) -> float:
    """Squared distance of the outputs on the calibration samples."""
    with torch.inference_mode():
        return sum(float((forward(model, one) - forward(original, one)).square().sum()) for one in SAMPLES)


def test_model_is_nearer_to_the_original_than_by_gptq(tmp_path: Path) -> None:
    gains = []
    for seed in range(4):
        source = make_model(tmp_path / str(seed), seed=seed, width=32, blocks=4)
        original = sottovoce.load(source, host=HOST)
        gains.append(distance(compressed(source, "gptaq"), original) / distance(compressed(source, "gptq"), original))
    assert sum(gains) / len(gains) < 0.9, gains


def test_first_layer_has_no_drift_and_is_rounded_as_by_gptq(tmp_path: Path) -> None:
    source = make_model(tmp_path / "toy", width=32, blocks=2)
    one, other = compressed(source, "gptaq"), compressed(source, "gptq")
    first, second = ("blocks.0.weight_packed", "blocks.1.weight_packed")
    assert torch.equal(one.module.state_dict()[first], other.module.state_dict()[first])
    assert not torch.equal(one.module.state_dict()[second], other.module.state_dict()[second])


def test_within_a_memory_limit_it_rounds_as_gptq_and_says_so(tmp_path: Path) -> None:
    source = make_model(tmp_path / "toy", width=32, blocks=3)
    limited, plain = compressed(source, "gptaq", limit=1 << 40), compressed(source, "gptq")
    tensors = limited.module.state_dict()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in plain.module.state_dict().items())
    assert limited.report is not None
    [step] = limited.report.steps
    assert any(note.startswith("gptaq: the memory is limited") for note in step.notes)
    assert step.step["method"] == "gptq"
    assert "with GPTQ" in str(step.summary)
    free = compressed(source, "gptaq").report
    assert free is not None
    assert not any("is limited" in note for note in free.steps[0].notes)


def test_interrupted_work_resumes_to_the_same_weights(tmp_path: Path) -> None:
    source, kept = make_model(tmp_path / "toy", width=32, blocks=4), tmp_path / "kept"
    recipe = {"steps": [{"step": "quantize", "method": "gptaq", "bits": 2, "group_size": 8}]}

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "quantize blocks" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sottovoce.compress(
            sottovoce.load(source, host=HOST), recipe, SAMPLES, resume=kept, host=HOST, progress=interrupt
        )
    assert any(kept.rglob("*.safetensors"))
    resumed = sottovoce.load(source, host=HOST)
    sottovoce.compress(resumed, recipe, SAMPLES, resume=kept, host=HOST)
    whole = compressed(source, "gptaq").module.state_dict()
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.module.state_dict().items())
