"""Facts of pruned layers, for resuming and for the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sottovoce.architecture import Architecture
from sottovoce.pruning.description import LayerErrors, PartCounts
from sottovoce.report import Coverage, StepReport, Target
from sottovoce.report.number_format import small_percent

_FACTOR, _LEAST = 2.0, 0.02
"""The error on held-out samples is much larger than on those of the fit if it is so by both, factor and share."""
DISAGREEMENT = "held_out_disagreement"
"""Key of a report's details: the layers whose fit does not hold on held-out samples."""


def disagrees(layer: LayerErrors) -> bool:
    """Return true if a fit does not hold on samples that it was not fitted on."""
    if layer.error is None or layer.fit_error is None:
        return False
    return layer.error > _FACTOR * layer.fit_error and layer.error > layer.fit_error + _LEAST


def step_report(
    step: dict[str, Any],
    architecture: Architecture,
    parameters: Mapping[str, int],
    removed: Mapping[str, int],
    parts: Mapping[str, PartCounts],
    layers: Mapping[str, LayerErrors],
    notes: Iterable[str] = (),
    timing: Mapping[str, float] | None = None,
) -> StepReport:
    """Return the report of a step that prunes.

    Args:
        step: The step in its recipe's form.
        architecture: The family.
        parameters: Elements of every parameter before, by name.
        removed: Elements that were removed, by the name of the layer.
        parts: What stays of every part.
        layers: What stays of every layer, with the errors.
        notes: Further notes.
        timing: Seconds of the parts of the work.
    """
    targets = [
        Target(name=name, parameters=count, output_error=layers[name].error if name in layers else None)
        for name, count in removed.items()
    ]
    disagreeing = {name: layer for name, layer in layers.items() if disagrees(layer)}
    details: dict[str, Any] = {
        "parts": {name: part.model_dump() for name, part in parts.items()},
        "layers": {name: layer.model_dump(exclude_none=True) for name, layer in layers.items()},
    }
    if disagreeing:
        details[DISAGREEMENT] = list(disagreeing)
    return StepReport(
        step=step,
        targets=tuple(targets),
        coverage=Coverage.of(architecture.part_of, parameters, targets),
        notes=(*notes, *_warnings(disagreeing)),
        timing=timing or {},
        details=details,
    )


def _warnings(layers: Mapping[str, LayerErrors]) -> Iterable[str]:
    if not layers:
        return
    name, layer = max(layers.items(), key=lambda item: item[1].error or 0.0)
    more = f" and {len(layers) - 1} layers more" if len(layers) > 1 else ""
    assert layer.error is not None
    assert layer.fit_error is not None
    yield (
        f"{name}{more}: the output error is {small_percent(layer.error)} on held-out samples and "
        f"{small_percent(layer.fit_error)} on those of the fit, so it may be larger still on other data; give more "
        "samples, or keep more"
    )
