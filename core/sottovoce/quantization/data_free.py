"""Quantization of a layer from its weight alone, in place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from sottovoce.calibration.output_error import signal_to_noise_db
from sottovoce.checkpoint.float_backup import FloatBackup
from sottovoce.quantization import checked
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.layers import from_quantized, replace_
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """Measurements of one quantized layer, for its line in the report; see :class:`~sottovoce.report.Target`."""

    bits: float
    snr_db: float | None = None
    output_error: float | None = None
    rounded_output_error: float | None = None


def quantize_layer_(
    module: nn.Module, name: str, scheme: Scheme, step: Quantize, float_backup: FloatBackup | None = None
) -> LayerResult:
    """Replace one layer, a linear layer or an embedding table; a linear layer is kept in ``float_backup``."""
    layer = module.get_submodule(name)
    if isinstance(layer, nn.Embedding):
        table = Int8Embedding.from_float(layer)
        replace_(module, name, table)
        snr = _snr(layer.weight, lambda part: table.weight[part].float() * table.weight_scale[part].float())
        return LayerResult(bits=stored_bits(table), snr_db=snr)
    assert isinstance(layer, nn.Linear)
    if float_backup is not None:
        float_backup.keep(name, layer)
    qweight, qparams = quantize_weight(layer.weight.detach(), scheme, step)
    quantized = from_quantized(layer, qweight, qparams)
    replace_(module, name, quantized)
    snr = _snr(layer.weight, lambda part: qparams.rows(part).dequantize(qweight[part]))
    return LayerResult(bits=stored_bits(quantized), snr_db=snr)


def quantize_weight(weight: Tensor, scheme: Scheme, step: Quantize) -> tuple[Tensor, QuantizationParams]:
    """Quantize a weight ``[out, in]`` by the step's method, without samples.

    Returns:
        The quantized values ``[out, in]``, and their scales and zero points.
    """
    if weight.is_meta:
        # Only the sizes are needed, which no method changes.
        qparams = compute_qparams(weight, scheme)
        return qparams.quantize(weight), qparams
    qparams = checked.compute_qparams(step.options, weight, scheme, search=step.weight_range == "mse")
    return checked.quantize(step.options, weight, qparams, None), qparams


def restore_precision_(module: nn.Module, name: str, layer: nn.Linear, bits: int) -> float | None:
    """Put a float layer in the place of its quantized one, in 8 bits or as it is.

    Args:
        module: The model.
        name: The layer's name.
        layer: The layer as it was before it was quantized.
        bits: 8, rounded to nearest with one scale for each output; or 32, which stays float.

    Returns:
        Bits of a stored weight; ``None`` for a float layer.
    """
    layer = layer.to(next(module.get_submodule(name).buffers()).device)
    if bits == 32:
        replace_(module, name, layer)
        return None
    qparams = compute_qparams(layer.weight, Scheme(bits=bits))
    quantized = from_quantized(layer, qparams.quantize(layer.weight), qparams)
    replace_(module, name, quantized)
    return stored_bits(quantized)


def stored_bits(layer: nn.Module) -> float:
    """Return the bits that a quantized layer takes for each weight, scales and zero points included."""
    stored = {name: tensor for name, tensor in layer.state_dict().items() if name.startswith("weight")}
    sizes = ("num_embeddings", "embedding_dim") if isinstance(layer, Int8Embedding) else ("out_features", "in_features")
    count = math.prod(int(getattr(layer, size)) for size in sizes)
    total = sum(int(tensor.nbytes) for name, tensor in stored.items() if name != "weight_shape")
    return round(8 * total / count, 3)


def _snr(weight: Tensor, values: Callable[[slice], Tensor]) -> float | None:
    ratio = None if weight.is_meta else signal_to_noise_db(weight.detach(), values)
    return None if ratio is None else round(ratio, 2)
