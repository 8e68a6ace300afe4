"""Scaling between modules of a block before its layers are quantized: by SmoothQuant, or by a method's factors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sottovoce.architecture import Architecture
from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.input_statistics import InputStatistics
from sottovoce.calibration.observers import Order, observe
from sottovoce.calibration.output_error import output_error
from sottovoce.calibration.routing import Routed, routed
from sottovoce.errors import CoverageError
from sottovoce.model import Model
from sottovoce.quantization import checked
from sottovoce.quantization.experts import LEAST_TOKENS
from sottovoce.quantization.method import Method
from sottovoce.quantization.scale_pairs import ModulePair, pairs_in
from sottovoce.quantization.smoothquant import smoothing_factors
from sottovoce.quantization.step import Smooth
from sottovoce.recipe.pattern import matches
from sottovoce.recipe.scheme import Scheme
from sottovoce.report import StepReport
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import Expert, assigned, experts_in
from sottovoce.runtime.qparams import compute_qparams


def prepare_smooth(model: Model, architecture: Architecture, step: Smooth) -> BlockStep:
    """Apply :class:`~sottovoce.quantization.step.Smooth` to every block: the function of the model stays the same.

    Raises:
        CoverageError: The family states nothing that can be scaled in this model.
    """
    if not has_pairs(model.module, architecture, lambda pair: _rounds_inputs(pair, architecture)):
        raise CoverageError(
            f"{architecture.name} states no modules that can be scaled; leave out the step {step.name!r}"
        )
    return SmoothRunner(model, architecture, step)


def has_pairs(module: nn.Module, architecture: Architecture, accept: Callable[[ModulePair], bool]) -> bool:
    """Return true if any block of the model has a pair that ``accept`` returns true for."""
    return any(
        accept(pair)
        for name, child in module.named_modules()
        if any(matches(name, type(child).__name__, pattern) for pattern in architecture.layers.blocks)
        for pair in pairs_in(architecture, name, child)
    )


def _rounds_inputs(pair: ModulePair, architecture: Architecture) -> bool:
    """Return true if a consumer's input may be quantized; outliers in the weights of others would only harm."""
    left = (*architecture.layers.ignore, *architecture.layers.weight_only)
    return any(not any(matches(name, "Linear", pattern) for pattern in left) for name in pair.layers)


class SmoothRunner(BlockStep):
    """Runner of the step ``smooth``."""

    divides_samples = True

    def __init__(self, model: Model, architecture: Architecture, step: Smooth) -> None:
        """Prepare the work; nothing is changed yet."""
        self.name, self.step, self.architecture = step.name, step, architecture
        self._layer_names = [
            f"{name}.{inside}"
            for name, child in model.module.named_modules()
            if any(matches(name, type(child).__name__, pattern) for pattern in architecture.layers.blocks)
            for inside, layer in child.named_modules()
            if isinstance(layer, nn.Linear)
        ]
        self._blocks = self._layers = 0
        self._calibrated = False

    @property
    def layers(self) -> Sequence[str]:
        """Linear layers of the blocks."""
        return self._layer_names

    def process_block(self, block: Block) -> dict[str, Any]:
        """Scale what the family says can be scaled."""
        count = 0
        self._calibrated |= block.is_reached
        for pair, statistics in self._pairs(block):
            weights = [consumer.weight for consumer in pair.layers.values()]
            pair.scale_(smoothing_factors(statistics.largest, weights, self.step.alpha))
            count += len(weights)
        facts = {"layers": count}
        self.restore_block(block.name, facts)
        return facts

    def _pairs(self, block: Block) -> Iterator[tuple[ModulePair, InputStatistics]]:
        if not block.is_reached:
            return
        inputs = _Inputs(block)
        for pair in pairs_in(self.architecture, block.name, block.module):
            if _rounds_inputs(pair, self.architecture) and (statistics := inputs.of(pair)) is not None:
                yield pair, statistics

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Count a block that was done before."""
        self._blocks += 1
        self._layers += int(facts["layers"])

    def on_end(self) -> StepReport:
        """Return the report with the number of layers that were smoothed.

        Raises:
            CoverageError: No layer was smoothed, because no sample reached one.
        """
        if self._calibrated and not self._layers:
            raise CoverageError("no sample reached a layer that can be smoothed; leave out the step 'smooth'")
        note = f"the inputs of {counted(self._layers, 'layer')} in {counted(self._blocks, 'block')} were smoothed"
        return StepReport(step=self.step.to_dict(), notes=(note,))


def scale_inputs_(
    architecture: Architecture, block: Block, schemes: Mapping[str, Scheme], method: Method, *, search: bool
) -> dict[str, float]:
    """Scale the inputs of the layers of one block by a method's factors, before the layers are quantized.

    Whatever else reads a scaled input and stays float, such as a router, is scaled by powers of two, so it gives the
    very same.

    Returns:
        For the layers that were scaled, the output error that rounding them as they were would have given. That of
        experts is not among them.
    """
    before: dict[str, float] = {}
    inputs = _Inputs(block)
    for pair in pairs_in(architecture, block.name, block.module):
        layers = {name: layer for name, layer in pair.layers.items() if name in schemes}
        if not layers or (statistics := inputs.of(pair)) is None:
            continue
        weights = [layer.weight.detach() for layer in layers.values()]
        layer_schemes = [schemes[name] for name in layers]
        hessian = statistics.hessian
        # A float layer or router beside them keeps its function exactly only with powers of two.
        exact = len(layers) < len(pair.consumers)
        factors = checked.search_factors(
            method, weights, layer_schemes, hessian, statistics.mean_magnitude, search=search, powers_of_two=exact
        )
        if factors is not None:
            for name, weight, scheme in zip(layers, weights, layer_schemes, strict=True):
                if inputs.mixture_of(name) is None:
                    qparams = compute_qparams(weight, scheme, search=search)
                    before.setdefault(name, output_error(weight, qparams.dequantize(qparams.quantize(weight)), hessian))
            inputs.scale_(pair, factors.to(weights[0].device))
    return before


class _Inputs:
    """Inputs of the consumers of a block's pairs, with the pairs before them already scaled."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._mixtures = [name for name, _ in experts_in(block.module, block.name)]
        self._routed: dict[str, Routed | None] = {}
        self._tokens: dict[str, dict[int, torch.Tensor]] = {}

    def mixture_of(self, name: str) -> str | None:
        """Return the mixture of experts that a layer belongs to, if any."""
        return next((mixture for mixture in self._mixtures if name.startswith(f"{mixture}.")), None)

    def scale_(self, pair: ModulePair, factors: torch.Tensor) -> None:
        """Scale a pair; the experts' inputs are then computed again, unless the pair lies within an expert."""
        pair.scale_(factors)
        if _expert_of(pair, self._mixtures) is None:
            self._routed.clear()

    def of(self, pair: ModulePair) -> InputStatistics | None:
        """Return the statistics of the inputs of a pair's consumers; ``None`` if no sample reaches them."""
        plain = [name for name in pair.layers if self.mixture_of(name) is None]
        if plain:
            statistics = observe(self._block, plain[:1], Order([plain[:1]], once=True))[plain[0]]
            return statistics if statistics.rows else None
        if not pair.layers:
            return None
        name, layer = next(iter(pair.layers.items()))
        given = self._given_to_experts(pair, name)
        if given is None:
            return None
        statistics = InputStatistics(layer.in_features, layer.weight.device)
        statistics.add(name, given)
        return statistics

    def _given_to_experts(self, pair: ModulePair, name: str) -> torch.Tensor | None:
        mixture = self.mixture_of(name)
        assert mixture is not None
        if mixture not in self._routed:
            self._routed[mixture] = tokens_of_mixture = routed(self._block, mixture)
            rows = (
                {}
                if tokens_of_mixture is None
                else {number: places for number, places, _ in assigned(tokens_of_mixture.index)}
            )
            self._tokens[mixture] = rows
        reached = self._routed[mixture]
        if reached is None:
            return None
        number = _expert_of(pair, self._mixtures)
        if number is None:
            return reached.hidden
        tokens = self._tokens[mixture].get(number)
        if tokens is None or len(tokens) < LEAST_TOKENS:
            return None
        expert = self._block.root.get_submodule(f"{mixture}.{number}")
        assert isinstance(expert, Expert)
        with torch.inference_mode():
            return expert.hidden(reached.hidden[tokens])


def _expert_of(pair: ModulePair, mixtures: list[str]) -> int | None:
    """Return the number of the expert that a pair lies within: its last projection reads its others' outputs."""
    for mixture in mixtures:
        for name in pair.layers:
            if name.startswith(f"{mixture}.") and name.endswith(".down_proj"):
                return int(name.removeprefix(f"{mixture}.").partition(".")[0])
    return None
