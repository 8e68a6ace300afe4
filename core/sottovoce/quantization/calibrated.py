"""Rounding a linear layer by what it is given, in place."""

from __future__ import annotations

import torch
from torch import nn

from sottovoce.calibration.input_statistics import InputStatistics
from sottovoce.errors import NotFiniteError
from sottovoce.quantization.activation_range import choose_range
from sottovoce.quantization.data_free import Quantized, quantize_weight, stored_bits
from sottovoce.quantization.error import output_error, output_power, signal_to_noise_db
from sottovoce.quantization.methods.gptq import gptq
from sottovoce.recipe.recipe import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import from_quantized, replace_
from sottovoce.runtime.qparams import compute_qparams
from sottovoce.system.machine import release_pages


def quantize_layer_calibrated_(
    module: nn.Module,
    name: str,
    scheme: Scheme,
    step: Quantize,
    statistics: InputStatistics,
    unscaled_error: float | None = None,
) -> tuple[Quantized, list[str]]:
    """Replace a linear layer by a quantized one.

    Args:
        module: The model.
        name: The layer.
        scheme: What it becomes.
        step: How it is rounded.
        statistics: What it is given.
        unscaled_error: The output error that rounding it to nearest had before it was scaled.

    Returns:
        What became of it, and notes.

    Raises:
        NotFiniteError: The second moments of its inputs cannot be inverted.
    """
    layer, notes = module.get_submodule(name), []
    assert isinstance(layer, nn.Linear)
    weight, hessian = layer.weight.detach(), statistics.hessian
    steps, qparams = quantize_weight(weight, scheme, step)
    rounded_steps = steps
    power = output_power(weight, hessian)
    error = output_error(weight, qparams.dequantize(steps), hessian, power)
    rounded_error = error
    if step.method in ("squant", "hqq") and scheme.type == "int":
        # These choose other values than the nearest ones; reports compare with the nearest.
        plain = compute_qparams(weight, scheme, search=step.weight_range == "mse")
        rounded_error = output_error(weight, plain.dequantize(plain.quantize(weight)), hessian, power)
    if step.gptq is not None and scheme.type == "int":
        try:
            steps = gptq(weight, hessian, qparams, step.gptq)
        except ArithmeticError as problem:
            raise NotFiniteError(f"{name}: {problem}") from None
        error = output_error(weight, qparams.dequantize(steps), hessian, power)
        if error > rounded_error:
            notes.append(f"{name}: rounding to nearest has the smaller output error, and was kept")
            steps, error = rounded_steps, rounded_error
    snr = signal_to_noise_db(weight, lambda part: qparams.rows(part).dequantize(steps[part]))
    inputs = choose_range(statistics.values, step.input_range) if step.input_range else None
    made = from_quantized(layer, steps, qparams, inputs)
    replace_(module, name, made)
    found = Quantized(
        bits=stored_bits(made),
        snr_db=None if snr is None else round(snr, 2),
        output_error=float(f"{error:.4g}"),
        rounded_output_error=float(f"{rounded_error if unscaled_error is None else unscaled_error:.4g}"),
    )
    return found, notes


def check_finite(name: str, layer: nn.Module) -> None:
    """Refuse a layer with a weight that is not finite.

    Raises:
        NotFiniteError: There is one; names the layer.
    """
    # Both ends of the range: one pass, and neither hides a value that is not a number.
    low, high = torch.aminmax(layer.weight)  # type: ignore[arg-type]
    if not (low.isfinite() and high.isfinite()):
        raise NotFiniteError(f"the weight of the layer {name!r} is not finite; the model is damaged")
    release_pages(layer.weight)  # type: ignore[arg-type]
