"""Scaling between modules of a block before its layers are rounded: SmoothQuant's factors, or AWQ's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sottovoce.algorithms.awq import search_factors
from sottovoce.algorithms.error import output_error
from sottovoce.algorithms.observation import Order, observe
from sottovoce.algorithms.smoothquant import scale_between_, smoothing_factors
from sottovoce.algorithms.statistics import InputStatistics
from sottovoce.architecture import Architecture, matches
from sottovoce.errors import CoverageError
from sottovoce.formats.grid import choose
from sottovoce.model import Model
from sottovoce.recipe import Smooth
from sottovoce.report import StepReport
from sottovoce.scheme import Scheme
from sottovoce.walk import Block

if TYPE_CHECKING:
    from sottovoce.passage import BlockStep


@dataclass(frozen=True)
class _Pair:
    source: nn.Module
    names: tuple[str, ...]
    readers: tuple[nn.Linear, ...]

    def scale_(self, factors: Tensor) -> None:
        scale_between_(self.source, self.readers, factors)


def smooth_(model: Model, architecture: Architecture, step: Smooth) -> BlockStep:
    """Apply :class:`~sottovoce.recipe.Smooth` to every block: the function of the model stays the same.

    Raises:
        CoverageError: The family states nothing that can be scaled.
    """
    if not architecture.scaling:
        raise CoverageError(
            f"{architecture.name} states no modules that can be scaled; leave out the step {step.name!r}"
        )
    return SmoothedBlocks(model, architecture, step)


class SmoothedBlocks:
    """One smoothing step on its way through the blocks (see :class:`~sottovoce.passage.BlockStep`)."""

    def __init__(self, model: Model, architecture: Architecture, step: Smooth) -> None:
        """Prepare the work; nothing is changed yet."""
        self.name, self.step, self.architecture = step.name, step, architecture
        self.layers = [
            f"{name}.{inside}"
            for name, child in model.module.named_modules()
            if any(matches(name, type(child).__name__, pattern) for pattern in architecture.blocks)
            for inside, layer in child.named_modules()
            if isinstance(layer, nn.Linear)
        ]
        self._blocks = self._layers = 0

    def begin_(self) -> None:
        """There is nothing outside of the blocks to smooth."""

    def visit_(self, block: Block) -> dict[str, Any]:
        """Scale what the family says can be scaled."""
        count = 0
        for pair, statistics in _pairs(self.architecture, block) if block.lanes else ():
            weights = [reader.weight for reader in pair.readers]
            pair.scale_(smoothing_factors(statistics.largest, weights, self.step.alpha))
            count += len(pair.readers)
        facts = {"layers": count}
        self.restore_(block.name, facts)
        return facts

    def restore_(self, block: str, facts: Mapping[str, Any]) -> None:
        """Count a block that was done before."""
        self._blocks += 1
        self._layers += int(facts["layers"])

    def finish(self) -> StepReport:
        """How many layers were smoothed."""
        note = f"the inputs of {self._layers} layers in {self._blocks} blocks were smoothed"
        return StepReport(step=self.step.to_dict(), notes=(note,))


def scale_by_activations_(
    architecture: Architecture, block: Block, schemes: Mapping[str, Scheme], *, search: bool
) -> dict[str, float]:
    """AWQ's scaling of one block whose layers are about to be rounded by ``schemes``.

    Returns:
        For the layers that were scaled, the output error that rounding them as they were would have given.
    """
    before: dict[str, float] = {}
    for pair, statistics in _pairs(architecture, block, lambda name: name in schemes):
        weights = [reader.weight.detach() for reader in pair.readers]
        chosen = [schemes[name] for name in pair.names]
        hessian = statistics.hessian
        factors, power = search_factors(weights, chosen, hessian, statistics.mean_magnitude, search=search)
        if power > 0:
            for name, weight, scheme in zip(pair.names, weights, chosen, strict=True):
                grid = choose(weight, scheme, search=search)
                before.setdefault(name, output_error(weight, grid.values(grid.round(weight)), hessian))
            pair.scale_(factors)
    return before


def _pairs(
    architecture: Architecture, block: Block, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[_Pair, InputStatistics]]:
    """The modules that the family says can be scaled, with what their readers are given now."""
    modules = dict(block.module.named_modules())
    kind = type(block.module).__name__
    pairs = [each for pattern, each in architecture.scaling.items() if matches(block.name, kind, pattern)]
    for source, readers in (pair for each in pairs for pair in each):
        names = tuple(f"{block.name}.{reader}" for reader in readers)
        layers = tuple(layer for reader in readers if isinstance(layer := modules.get(reader), nn.Linear))
        if source not in modules or len(layers) < len(readers) or not all(map(wanted, names)):
            continue
        if not _fits(modules[source], layers):
            continue
        statistics = observe(block, names[:1], Order([list(names[:1])], once=True))[names[0]]
        if statistics.rows:
            yield _Pair(modules[source], names, layers), statistics


def _fits(source: nn.Module, readers: tuple[nn.Linear, ...]) -> bool:
    weight = getattr(source, "weight", None)
    return weight is not None and all(reader.in_features == weight.shape[0] for reader in readers)
