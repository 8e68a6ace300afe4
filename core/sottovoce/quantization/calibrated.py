"""Quantization of a linear layer with the statistics of its inputs, in place."""

from __future__ import annotations

from torch import Tensor, nn

from sottovoce.calibration.input_statistics import InputStatistics
from sottovoce.calibration.output_drift import OutputDrift
from sottovoce.calibration.output_error import output_error, output_power, signal_to_noise_db
from sottovoce.errors import NotFiniteError
from sottovoce.quantization import checked
from sottovoce.quantization.activation_range import choose_range
from sottovoce.quantization.data_free import LayerResult, stored_bits
from sottovoce.quantization.method import Method
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import from_quantized, replace_
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams


def quantize_layer_calibrated_(
    module: nn.Module,
    name: str,
    scheme: Scheme,
    step: Quantize,
    statistics: InputStatistics,
    unscaled_error: float | None = None,
    drift: OutputDrift | None = None,
) -> tuple[LayerResult, list[str]]:
    """Replace a linear layer by a quantized one.

    Args:
        module: The model.
        name: The layer's name.
        scheme: Bits, group size and kind of activations.
        step: The recipe's step.
        statistics: Statistics of the layer's inputs.
        unscaled_error: The output error that rounding to nearest had before the layer was scaled.
        drift: How far its outputs have drifted, for a method that follows the original model. Errors are then those
            from the weight that takes the drift up.

    Returns:
        The measurements, and notes.

    Raises:
        NotFiniteError: The second moments of its inputs cannot be inverted.
    """
    layer, notes = module.get_submodule(name), []
    assert isinstance(layer, nn.Linear)
    original, hessian, method = layer.weight.detach(), statistics.hessian, step.options
    search = step.weight_range == "mse"
    weight = original
    if drift is not None and drift.rows:
        weight = _corrected(method, name, original, hessian, drift.mean(statistics.rows))
    qparams = checked.compute_qparams(method, weight, scheme, search=search)
    power = output_power(original, hessian)

    def error_of(values: Tensor, params: QuantizationParams) -> float:
        return output_error(weight, params.dequantize(values), hessian, power)

    # Reports compare with rounding to nearest, whatever the method.
    plain = qparams
    if method.chooses_qparams or weight is not original:
        plain = compute_qparams(original, scheme, search=search)
    nearest = plain.quantize(original)
    error = nearest_error = error_of(nearest, plain)
    qweight = nearest
    if not method.rounds_to_nearest or plain is not qparams:
        try:
            qweight = checked.quantize(method, weight, qparams, hessian)
        except ArithmeticError as problem:
            raise NotFiniteError(f"{name}: {problem}") from None
        error = error_of(qweight, qparams)
        if method.needs_samples and error > nearest_error:
            notes.append(f"{name}: rounding to nearest has the smaller output error, and was kept")
            qweight, qparams, error = nearest, plain, nearest_error
    snr = signal_to_noise_db(original, lambda part: qparams.rows(part).dequantize(qweight[part]))
    inputs = choose_range(statistics.values, step.input_range) if step.input_range else None
    quantized = from_quantized(layer, qweight, qparams, inputs)
    replace_(module, name, quantized)
    result = LayerResult(
        bits=stored_bits(quantized),
        snr_db=None if snr is None else round(snr, 2),
        output_error=float(f"{error:.4g}"),
        rounded_output_error=float(f"{nearest_error if unscaled_error is None else unscaled_error:.4g}"),
    )
    return result, notes


def _corrected(method: Method, name: str, weight: Tensor, hessian: Tensor, drift: Tensor) -> Tensor:
    """Return the weight that takes the drift up.

    Raises:
        NotFiniteError: The second moments cannot be inverted.
    """
    try:
        return checked.correct(method, weight, hessian, drift)
    except ArithmeticError as problem:
        raise NotFiniteError(f"{name}: {problem}") from None
