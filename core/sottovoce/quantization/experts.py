"""Rounding the experts of a layer by the tokens that are routed to them, one expert after another.

The tokens of all samples are taken together, so that the second moments of one expert are in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sottovoce.calibration.routing import Routed
from sottovoce.errors import NotFiniteError
from sottovoce.quantization.data_free import Quantized, quantize_layer_, quantize_weight, stored_bits
from sottovoce.quantization.error import squares
from sottovoce.quantization.methods.gptq import gptq
from sottovoce.recipe.recipe import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends.onednn import matmul_transposed
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
) -> tuple[dict[str, Quantized], list[str]]:
    """Replace the layers of the experts by quantized ones, in place.

    Args:
        experts: All experts of a layer.
        name: Their module's name in the model.
        schemes: By full name, what each layer becomes.
        step: How they are rounded. By GPTQ or AWQ, an expert with under 32 tokens is rounded to nearest.
        routed: What they are given.
        unscaled: By full name, the output errors that rounding to nearest had before layers were scaled.

    Returns:
        What became of the layers, and notes.
    """
    rows = {number: places for number, places, _ in assigned(routed.index)}
    found: dict[str, Quantized] = {}
    few: list[int] = []
    for number, expert in enumerate(experts):
        assert isinstance(expert, Expert)
        mine = [layer for layer in schemes if layer.startswith(f"{name}.{number}.")]
        tokens = rows.get(number)
        by_samples = step.method in ("gptq", "awq")
        if not by_samples or tokens is None or len(tokens) < LEAST_TOKENS:
            few += [number] if by_samples and mine else []
            for layer in mine:
                found[layer] = quantize_layer_(experts, layer.removeprefix(f"{name}."), schemes[layer], step)
            continue
        work = _ExpertRounding(expert, f"{name}.{number}", schemes, step)
        found |= work.round_(routed.hidden[tokens])
    for layer, error in (unscaled or {}).items():
        if layer in found and found[layer].output_error is not None:
            found[layer] = replace(found[layer], rounded_output_error=error)
    notes = []
    if few:
        shown = ", ".join(map(str, few[:8])) + (", ..." if len(few) > 8 else "")
        notes.append(
            f"{name}: {len(few)} experts were given under {LEAST_TOKENS} tokens and rounded to nearest: {shown}"
        )
    return found, notes


def nearest_errors(
    experts: Experts, name: str, schemes: Mapping[str, Scheme], step: Quantize, routed: Routed
) -> dict[str, float]:
    """Return the output error that rounding each layer of the experts to nearest, as they are, would have.

    Args:
        experts: All experts of a layer.
        name: Their module's name in the model.
        schemes: By full name, what each layer becomes.
        step: How they are rounded.
        routed: What they are given; an expert with under 32 tokens is left out.
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
                steps, qparams = quantize_weight(weight.detach(), schemes[layer], step)
                given = _probed(hidden if projection == "down_proj" else x)
                errors[layer] = _error(given, weight.detach(), qparams.dequantize(steps))
    return errors


def _probed(x: Tensor) -> Tensor:
    return x[:: -(-len(x) // _PROBED)].float()


def _error(x: Tensor, weight: Tensor, values: Tensor) -> float:
    given = squares(x @ weight.float().t())
    return float(f"{squares(x @ (values - weight.float()).t()) / given if given else 0.0:.4g}")


class _ExpertRounding:
    """One expert under work."""

    def __init__(self, expert: Expert, name: str, schemes: Mapping[str, Scheme], step: Quantize) -> None:
        self.expert, self.name, self.schemes, self.step = expert, name, schemes, step

    def round_(self, x: Tensor) -> dict[str, Quantized]:
        found = self._round_together_(("gate_proj", "up_proj"), x)
        with torch.inference_mode():
            hidden = self.expert.hidden(in_kernel_sizes(x))[: len(x)]
        return found | self._round_together_(("down_proj",), hidden)

    def _round_together_(self, names: tuple[str, ...], x: Tensor) -> dict[str, Quantized]:
        """Layers that are given the same, as one: their moments and the factor of them are computed once."""
        names = tuple(name for name in names if f"{self.name}.{name}" in self.schemes)
        found: dict[str, Quantized] = {}
        for scheme in dict.fromkeys(self.schemes[f"{self.name}.{name}"] for name in names):
            same = [name for name in names if self.schemes[f"{self.name}.{name}"] == scheme]
            layers = [self.expert.get_submodule(name) for name in same]
            weights = [layer.weight.detach() for layer in layers if isinstance(layer, nn.Linear)]
            steps, qparams, rounded = self._steps(torch.cat(weights), scheme, x)
            first = 0
            for name, layer, weight in zip(same, layers, weights, strict=True):
                part = slice(first, first + len(weight))
                own = qparams.rows(part)
                assert isinstance(layer, nn.Linear)
                made = from_quantized(layer, steps[part].contiguous(), own)
                replace_(self.expert, name, made)
                found[f"{self.name}.{name}"] = _facts(made, weight, own, steps[part], rounded[part], x)
                first += len(weight)
        return found

    def _steps(self, weight: Tensor, scheme: Scheme, x: Tensor) -> tuple[Tensor, QuantizationParams, Tensor]:
        rounded, qparams = quantize_weight(weight, scheme, self.step)
        if self.step.gptq is None or scheme.type != "int":
            return rounded, qparams, rounded
        # Columns of zeros change no moment, and as in `in_kernel_sizes` fewer sizes are met.
        padded = nn.functional.pad(x, (0, 0, 0, -len(x) % KERNEL_ROWS))
        across = padded.t().contiguous().float()
        moments = matmul_transposed(across, across).div_(len(x))
        try:
            return gptq(weight, moments, qparams, self.step.gptq), qparams, rounded
        except ArithmeticError as problem:
            raise NotFiniteError(f"{self.name}: {problem}") from None


def _facts(
    made: nn.Module, weight: Tensor, qparams: QuantizationParams, steps: Tensor, rounded: Tensor, x: Tensor
) -> Quantized:
    probed = _probed(x)
    # Energies of the weight, of what it lost, and of the outputs: its own, what they lost, and by rounding to nearest.
    signal, noise, given, error, rounded_error = 0.0, 0.0, 0.0, 0.0, 0.0
    for part in row_chunks(weight):
        exact, own = weight[part].float(), qparams.rows(part)
        lost, rounding = own.dequantize(steps[part]).sub_(exact), own.dequantize(rounded[part]).sub_(exact)
        signal, noise = signal + squares(exact), noise + squares(lost)
        given += squares(probed @ exact.t())
        error += squares(probed @ lost.t())
        rounded_error += squares(probed @ rounding.t())
    snr = 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None
    return Quantized(
        bits=stored_bits(made),
        snr_db=None if snr is None else round(snr, 2),
        output_error=float(f"{error / given if given else 0.0:.4g}"),
        rounded_output_error=float(f"{rounded_error / given if given else 0.0:.4g}"),
    )
