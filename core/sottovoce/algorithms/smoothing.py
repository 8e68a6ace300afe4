"""Scaling between modules of a block before its layers are rounded: SmoothQuant's factors, or AWQ's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sottovoce.algorithms.awq import search_factors
from sottovoce.algorithms.error import output_error
from sottovoce.algorithms.observation import Order, observe
from sottovoce.algorithms.smoothquant import scale_between_, smoothing_factors
from sottovoce.algorithms.statistics import InputStatistics
from sottovoce.architecture import Architecture, matches
from sottovoce.calibration import Calibration, check_samples
from sottovoce.errors import CoverageError, SamplesError
from sottovoce.formats.grid import choose
from sottovoce.model import Model
from sottovoce.recipe import Smooth
from sottovoce.report import StepReport
from sottovoce.scheme import Scheme
from sottovoce.walk import Block, walk


@dataclass(frozen=True)
class _Pair:
    source: nn.Module
    names: tuple[str, ...]
    readers: tuple[nn.Linear, ...]

    def scale_(self, factors: Tensor) -> None:
        scale_between_(self.source, self.readers, factors)


def smooth_(model: Model, architecture: Architecture, step: Smooth, calibration: Calibration) -> StepReport:
    """Apply :class:`~sottovoce.recipe.Smooth` to every block: the function of the model stays the same.

    Raises:
        CoverageError: The family states nothing that can be scaled.
        SamplesError: There are no samples.
    """
    begin, count = time.perf_counter(), 0
    if not architecture.scaling:
        raise CoverageError(
            f"{architecture.name} states no modules that can be scaled; leave out the step {step.name!r}"
        )
    if next(model.module.parameters()).is_meta:
        return StepReport(step=step.to_dict())
    if calibration.samples is None:
        raise SamplesError("smooth calibrates on samples; give them (--data)")
    told = check_samples(calibration.samples, architecture)
    names = [
        name
        for name, child in model.module.named_modules()
        if any(matches(name, type(child).__name__, pattern) for pattern in architecture.blocks)
    ]

    def visit(block: Block) -> None:
        nonlocal count
        calibration.progress(f"{step.name} blocks", names.index(block.name), len(names))
        for pair, statistics in _pairs(architecture, block):
            weights = [reader.weight for reader in pair.readers]
            pair.scale_(smoothing_factors(statistics.largest, weights, step.alpha))
            count += len(pair.readers)

    walk(model, calibration.samples, names, visit)
    note = f"the inputs of {count} layers in {len(names)} blocks were smoothed"
    return StepReport(step=step.to_dict(), seconds=round(time.perf_counter() - begin, 3), notes=(*told, note))


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
