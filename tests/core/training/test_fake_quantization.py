"""Training of quantized layers: the engine's rounding while learning, and just these values stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sottovoce
from core.toy import make_model
from core.training.letters import HOST, SAMPLES, make_samples
from sottovoce.calibration.reference import Reference
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import int_mm
from sottovoce.runtime.layers import from_quantized
from sottovoce.runtime.qparams import compute_qparams
from sottovoce.training.fake_quantization import FakeQuantizedLinear, fake_quantized
from sottovoce.training.zeros import Zeros

SCHEMES = [
    Scheme(bits=4, group_size=16),
    Scheme(bits=4, group_size=16, symmetric=False),
    Scheme(bits=3, group_size=16),
    Scheme(bits=2, group_size=16, symmetric=False),
    Scheme(bits=8, group_size=16),
    Scheme(bits=8, activations="dynamic", strategy="tensor"),
    Scheme(bits=8, activations="dynamic", strategy="token"),
]


def quantized(scheme: Scheme) -> tuple[nn.Linear, Any]:
    torch.manual_seed(0)
    linear = nn.Linear(32, 24)
    qparams = compute_qparams(linear.weight.detach(), scheme)
    return linear, from_quantized(linear, qparams.quantize(linear.weight.detach()), qparams)


def computed(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """The layer's product; that of 8-bit inputs in integers, since engines without VNNI have fewer bits for them."""
    if layer.scheme.activations == "none":
        return layer(x)  # type: ignore[no-any-return]
    quantize = int_mm.quantize_rows if layer.scheme.strategy == "token" else int_mm.quantize
    weight = int_mm.prepare(layer.weight, layer.weight_scale, layer.bias, has_zero_point=True)
    return int_mm.linear(quantize(x), weight)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_layer_in_training_computes_what_the_stored_layer_does(scheme: Scheme) -> None:
    linear, layer = quantized(scheme)
    trained = FakeQuantizedLinear(layer, linear.weight)
    with torch.no_grad():
        trained.weight.add_(0.01 * torch.randn(24, 32))
        trained.log_scale.add_(0.02 * torch.randn(trained.log_scale.shape))
    x = torch.randn(5, 32)
    stored: Any = trained.quantized()
    with torch.no_grad():
        assert torch.allclose(trained(x), computed(stored, x), atol=2e-5)
        assert torch.equal(trained.rounded_weight(), stored.float_weight(torch.float32))  # type: ignore[operator]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_untouched_layer_is_stored_as_it_was(scheme: Scheme) -> None:
    linear, layer = quantized(scheme)
    for origin in (None, linear.weight):
        stored = FakeQuantizedLinear(layer, origin).quantized().state_dict()
        assert all(tensor.equal(stored[name]) for name, tensor in layer.state_dict().items())


def test_weights_and_scales_have_gradients_of_straight_through_and_lsq() -> None:
    linear, layer = quantized(Scheme(bits=4, group_size=16))
    trained = FakeQuantizedLinear(layer, linear.weight)
    trained.rounded_weight().sum().backward()
    scale = trained.qparams().scale[..., None]
    groups = trained.weight.detach().view(24, 2, 16)
    values = (groups / scale).round().clamp(-8, 7)
    within = (groups / scale).abs() <= 7
    assert trained.weight.grad is not None and trained.log_scale.grad is not None
    assert torch.allclose(trained.weight.grad[within.view(24, 32)], torch.ones(int(within.sum())), atol=1e-4)
    # Esser et al., arXiv 1902.08153: the quantized value less the place; times the scale for its logarithm.
    lsq = ((values - torch.where(within, groups / scale, 0.0)) * scale).sum(-1)
    assert torch.allclose(trained.log_scale.grad, lsq, atol=1e-3)


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_zeros_of_rounding_learn_and_zeros_of_pruning_stay(sparsity: float) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 64)
    with torch.no_grad():
        linear.weight[torch.rand(64, 64) < sparsity] = 0.0
    qparams = compute_qparams(linear.weight.detach(), Scheme(bits=4, group_size=16))
    layer: Any = from_quantized(linear, qparams.quantize(linear.weight.detach()), qparams)
    rounded_to_zero = layer.qweight() == 0
    assert float(rounded_to_zero.float().mean()) > 0.05
    for origin in (None, torch.randn(64, 64)):
        trained = FakeQuantizedLinear(layer, origin)
        zeros = Zeros([trained.weight])
        with torch.no_grad():
            trained.weight.add_(1.0)
        zeros.restore_()
        left = trained.quantized().qweight() == 0  # type: ignore[operator]
        assert bool(left[rounded_to_zero].all()) == (sparsity > 0)


def test_layers_are_stored_again_even_after_an_error() -> None:
    _, layer = quantized(SCHEMES[0])
    module = nn.Sequential(layer, nn.Linear(24, 4))
    with pytest.raises(RuntimeError), fake_quantized(module):
        assert isinstance(module[0], FakeQuantizedLinear)
        raise RuntimeError
    assert type(module[0]) is type(layer)


# What 8 bits lose is the inputs' part, which differs by processor; fewer bits leave much to learn.
@pytest.mark.parametrize(("bits", "share", "most"), [(2, 0.5, 1.0), (3, 0.5, 1.0), (4, 0.5, 1.0), (8, 100.0, 1e-3)])
def test_quantized_student_is_distilled_saved_and_loaded_exactly(
    tmp_path: Path, bits: int, share: float, most: float
) -> None:
    source = make_model(tmp_path / "teacher")
    reference = Reference(sottovoce.load(source, host=HOST), tuple(make_samples(8, seed=9)))
    quantize = {"step": "quantize", "bits": bits, "method": "round_to_nearest", "min_coverage": 0.1}
    distill = {"step": "distill", "steps": 80, "batch": 8, "evaluations": 4, "learning_rate": 1e-3}
    plain, model = (sottovoce.load(source, host=HOST) for _ in range(2))
    sottovoce.compress(plain, {"steps": [quantize]}, host=HOST)
    sottovoce.compress(model, {"steps": [quantize, distill]}, training_samples=SAMPLES, host=HOST)
    assert model.size_bytes == plain.size_bytes
    assert reference.divergence(model)["all"] < min(share * reference.divergence(plain)["all"], most)
    directory = sottovoce.save(model, tmp_path / "student", host=HOST)
    again = sottovoce.load(directory, host=HOST)
    assert reference.divergence(again)["all"] == reference.divergence(model)["all"]
