"""Quantization of the experts of a layer with the tokens that are routed to them, one expert after another.

The tokens of all samples are taken together, so that the second moments of one expert are in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sottovoce.calibration.output_error import squares
from sottovoce.calibration.routing import Routed
from sottovoce.errors import NotFiniteError
from sottovoce.quantization import checked
from sottovoce.quantization.data_free import LayerResult, quantize_layer_, quantize_weight, stored_bits
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.report.number_format import counted
from sottovoce.runtime.backends.onednn_float import matmul_transposed
from sottovoce.runtime.experts import KERNEL_ROWS, PROJECTIONS, Expert, Experts, assigned, in_kernel_sizes
from sottovoce.runtime.layers import from_quantized, replace_
from sottovoce.runtime.qparams import QuantizationParams, row_chunks

LEAST_TOKENS = 32
"""Tokens that an expert must be given for GPTQ: with fewer, their moments say little of what comes."""
_PROBED = 64
"""Tokens that the error of an expert's output is measured on at most."""


def quantize_experts_(
    experts: Experts,
    name: str,
    schemes: Mapping[str, Scheme],
    step: Quantize,
    routed: Routed,
    unscaled: Mapping[str, float] | None = None,
) -> tuple[dict[str, LayerResult], list[str]]:
    """Replace the layers of the experts by quantized ones, in place.

    Args:
        experts: All experts of a layer.
        name: Their module's name in the model.
        schemes: By full name, what each layer becomes.
        step: The recipe's step. With a method that needs samples, an expert with under 32 tokens is rounded to nearest.
        routed: Tokens that reach the experts.
        unscaled: By full name, the output errors that rounding to nearest had before layers were scaled.

    Returns:
        The measurements of the layers, and notes.
    """
    rows = {number: places for number, places, _ in assigned(routed.index)}
    results: dict[str, LayerResult] = {}
    few: list[int] = []
    for number, expert in enumerate(experts):
        assert isinstance(expert, Expert)
        layers = [layer for layer in schemes if layer.startswith(f"{name}.{number}.")]
        tokens = rows.get(number)
        calibrated = step.options.needs_samples
        if not calibrated or tokens is None or len(tokens) < LEAST_TOKENS:
            few += [number] if calibrated and layers else []
            for layer in layers:
                results[layer] = quantize_layer_(experts, layer.removeprefix(f"{name}."), schemes[layer], step)
            continue
        quantizer = _ExpertQuantizer(expert, f"{name}.{number}", schemes, step)
        results |= quantizer.quantize(routed.hidden[tokens])
    for layer, error in (unscaled or {}).items():
        if layer in results and results[layer].output_error is not None:
            results[layer] = replace(results[layer], rounded_output_error=error)
    notes = []
    if few:
        shown = ", ".join(map(str, few[:8])) + (", ..." if len(few) > 8 else "")
        notes.append(
            f"{name}: {counted(len(few), 'expert was', 'experts were')} given under {LEAST_TOKENS} tokens "
            f"and rounded to nearest: {shown}"
        )
    return results, notes


def nearest_errors(
    experts: Experts, name: str, schemes: Mapping[str, Scheme], step: Quantize, routed: Routed
) -> dict[str, float]:
    """Return the output error that rounding each layer of the experts to nearest, as they are, would have.

    Args:
        experts: All experts of a layer.
        name: Their module's name in the model.
        schemes: By full name, what each layer becomes.
        step: The recipe's step.
        routed: Tokens that reach the experts; an expert with under 32 tokens is left out.
    """
    errors: dict[str, float] = {}
    for number, tokens, _ in assigned(routed.index):
        expert = experts[number]
        assert isinstance(expert, Expert)
        if len(tokens) < LEAST_TOKENS:
            continue
        x = routed.hidden[tokens]
        with torch.inference_mode():
            hidden = expert.hidden(in_kernel_sizes(x))[: len(x)]
        for projection in PROJECTIONS:
            layer = f"{name}.{number}.{projection}"
            if layer in schemes:
                weight = expert.get_submodule(projection).weight
                assert isinstance(weight, nn.Parameter)
                qweight, qparams = quantize_weight(weight.detach(), schemes[layer], step)
                given = _probed(hidden if projection == "down_proj" else x)
                errors[layer] = _error(given, weight.detach(), qparams.dequantize(qweight))
    return errors


def _probed(x: Tensor) -> Tensor:
    return x[:: -(-len(x) // _PROBED)].float()


def _error(x: Tensor, weight: Tensor, values: Tensor) -> float:
    given = squares(x @ weight.float().t())
    return float(f"{squares(x @ (values - weight.float()).t()) / given if given else 0.0:.4g}")


class _ExpertQuantizer:
    """Quantizer of one expert."""

    def __init__(self, expert: Expert, name: str, schemes: Mapping[str, Scheme], step: Quantize) -> None:
        self.expert, self.name, self.schemes, self.step = expert, name, schemes, step

    def quantize(self, x: Tensor) -> dict[str, LayerResult]:
        results = self._quantize_together(("gate_proj", "up_proj"), x)
        with torch.inference_mode():
            hidden = self.expert.hidden(in_kernel_sizes(x))[: len(x)]
        return results | self._quantize_together(("down_proj",), hidden)

    def _quantize_together(self, names: tuple[str, ...], x: Tensor) -> dict[str, LayerResult]:
        """Quantize layers with the same inputs as one: their second moments and the factor are computed once."""
        names = tuple(name for name in names if f"{self.name}.{name}" in self.schemes)
        results: dict[str, LayerResult] = {}
        for scheme in dict.fromkeys(self.schemes[f"{self.name}.{name}"] for name in names):
            same = [name for name in names if self.schemes[f"{self.name}.{name}"] == scheme]
            layers = [self.expert.get_submodule(name) for name in same]
            weights = [layer.weight.detach() for layer in layers if isinstance(layer, nn.Linear)]
            qweight, qparams, nearest = self._quantized(torch.cat(weights), scheme, x)
            first = 0
            for name, layer, weight in zip(same, layers, weights, strict=True):
                part = slice(first, first + len(weight))
                rows = qparams.rows(part)
                assert isinstance(layer, nn.Linear)
                quantized = from_quantized(layer, qweight[part].contiguous(), rows)
                replace_(self.expert, name, quantized)
                results[f"{self.name}.{name}"] = _measure(quantized, weight, rows, qweight[part], nearest[part], x)
                first += len(weight)
        return results

    def _quantized(self, weight: Tensor, scheme: Scheme, x: Tensor) -> tuple[Tensor, QuantizationParams, Tensor]:
        """Return the quantized values, their scales, and the values rounded to nearest."""
        method = self.step.options
        qparams = checked.compute_qparams(method, weight, scheme, search=self.step.weight_range == "mse")
        nearest = qparams.quantize(weight)
        if method.rounds_to_nearest:
            return nearest, qparams, nearest
        # Columns of zeros change no moment, and as in `in_kernel_sizes` fewer sizes are met.
        padded = nn.functional.pad(x, (0, 0, 0, -len(x) % KERNEL_ROWS))
        across = padded.t().contiguous().float()
        moments = matmul_transposed(across, across).div_(len(x))
        try:
            return checked.quantize(method, weight, qparams, moments), qparams, nearest
        except ArithmeticError as problem:
            raise NotFiniteError(f"{self.name}: {problem}") from None


def _measure(
    layer: nn.Module, weight: Tensor, qparams: QuantizationParams, qweight: Tensor, nearest: Tensor, x: Tensor
) -> LayerResult:
    probed = _probed(x)
    # Energies of the weight, of its error, of the outputs, of their error, and of that by rounding to nearest.
    signal, noise, given, error, rounded_error = 0.0, 0.0, 0.0, 0.0, 0.0
    for part in row_chunks(weight):
        exact, rows = weight[part].float(), qparams.rows(part)
        lost, rounding = rows.dequantize(qweight[part]).sub_(exact), rows.dequantize(nearest[part]).sub_(exact)
        signal, noise = signal + squares(exact), noise + squares(lost)
        given += squares(probed @ exact.t())
        error += squares(probed @ lost.t())
        rounded_error += squares(probed @ rounding.t())
    snr = 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None
    return LayerResult(
        bits=stored_bits(layer),
        snr_db=None if snr is None else round(snr, 2),
        output_error=float(f"{error / given if given else 0.0:.4g}"),
        rounded_output_error=float(f"{rounded_error / given if given else 0.0:.4g}"),
    )
