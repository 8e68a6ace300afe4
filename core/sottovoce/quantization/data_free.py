"""Quantization without data: to the nearest step of every weight's own range, by SQuant, or by HQQ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sottovoce.checkpoint.float_backup import FloatBackup
from sottovoce.quantization.error import signal_to_noise_db
from sottovoce.quantization.methods.hqq import hqq
from sottovoce.quantization.methods.squant import squant
from sottovoce.recipe.recipe import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.layers import from_quantized, replace_
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What became of one layer, for its line in the report."""

    bits: float
    snr_db: float | None = None
    output_error: float | None = None
    rounded_output_error: float | None = None


def round_(
    module: nn.Module, schemes: Mapping[str, Scheme], step: Quantize, float_backup: FloatBackup | None = None
) -> dict[str, Quantized]:
    """Replace the layers by quantized ones, in place, one after another."""
    return {name: quantize_layer_(module, name, scheme, step, float_backup) for name, scheme in schemes.items()}


def quantize_layer_(
    module: nn.Module, name: str, scheme: Scheme, step: Quantize, float_backup: FloatBackup | None = None
) -> Quantized:
    """Replace one layer, a linear layer or an embedding table; a linear layer is kept among ``float_backup``."""
    layer = module.get_submodule(name)
    if isinstance(layer, nn.Embedding):
        table = Int8Embedding.from_float(layer)
        replace_(module, name, table)
        snr = _snr(layer.weight, lambda part: table.weight[part].float() * table.weight_scale[part].float())
        return Quantized(bits=stored_bits(table), snr_db=snr)
    assert isinstance(layer, nn.Linear)
    if float_backup is not None:
        float_backup.keep(name, layer)
    steps, qparams = quantize_weight(layer.weight.detach(), scheme, step)
    made = from_quantized(layer, steps, qparams)
    replace_(module, name, made)
    snr = _snr(layer.weight, lambda part: qparams.rows(part).dequantize(steps[part]))
    return Quantized(bits=stored_bits(made), snr_db=snr)


def quantize_weight(weight: Tensor, scheme: Scheme, step: Quantize) -> tuple[Tensor, QuantizationParams]:
    """The steps ``[out, in]`` and their qparams, from the weight alone."""
    if step.method == "hqq" and scheme.type == "int":
        return hqq(weight, scheme)
    qparams = compute_qparams(weight, scheme, search=step.weight_range == "mse")
    return squant(weight, qparams) if step.method == "squant" else qparams.quantize(weight), qparams


def stored_bits(layer: nn.Module) -> float:
    """Bits that a quantized layer takes for each weight, scales and zero points included."""
    stored = {name: tensor for name, tensor in layer.state_dict().items() if name.startswith("weight")}
    sizes = ("num_embeddings", "embedding_dim") if isinstance(layer, Int8Embedding) else ("out_features", "in_features")
    count = math.prod(int(getattr(layer, size)) for size in sizes)
    total = sum(int(tensor.nbytes) for name, tensor in stored.items() if name != "weight_shape")
    return round(8 * total / count, 3)


def _snr(weight: Tensor, values: Callable[[slice], Tensor]) -> float | None:
    found = None if weight.is_meta else signal_to_noise_db(weight.detach(), values)
    return None if found is None else round(found, 2)
