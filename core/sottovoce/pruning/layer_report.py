"""Facts of pruned layers, for resuming and for the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sottovoce.architecture import Architecture
from sottovoce.pruning.description import LayerErrors, LayerRemoval, PartCounts
from sottovoce.report import HELD_OUT_DISAGREEMENT, Coverage, StepReport, Target
from sottovoce.report.number_format import counted, small_percent

_FACTOR, _LEAST = 2.0, 0.02
"""The error on held-out samples is much larger than on those of the fit if it is so by both, factor and share."""
_LEAST_NATS = 0.02
"""Divergence on held-out samples is much larger only if it is by this many nats per token too."""


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
        details[HELD_OUT_DISAGREEMENT] = list(disagreeing)
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
    more = f" and {counted(len(layers) - 1, 'layer')} more" if len(layers) > 1 else ""
    assert layer.error is not None
    assert layer.fit_error is not None
    yield (
        f"{name}{more}: the output error is {small_percent(layer.error)} on held-out samples and "
        f"{small_percent(layer.fit_error)} on those of the fit, so it may be larger still on other data; give more "
        "samples, or keep more"
    )


@dataclass
class Removal:
    """Layers that are removed, and what was measured."""

    names: Sequence[str]
    """In the order of their removal."""
    removals: list[LayerRemoval] = field(default_factory=list)
    """The divergence after each."""
    errors: Mapping[str, LayerErrors] = field(default_factory=dict)
    """By name of a layer that absorbed others, the errors of the hidden states."""
    notes: list[str] = field(default_factory=list)
    timing: dict[str, float] = field(default_factory=dict)
    last: Callable[[], LayerRemoval] | None = None
    """Function that measures the model without all of them."""

    def measure(self) -> None:
        """Measure what was measured last again, with the weights that are stored."""
        if self.last is not None:
            self.removals[-1] = self.last()


def layers_report(
    step: dict[str, Any],
    architecture: Architecture,
    parameters: Mapping[str, int],
    removed: Mapping[str, int],
    parts: Mapping[str, PartCounts],
    removal: Removal,
) -> StepReport:
    """Return the report of a step that removes whole layers; see :func:`step_report`."""
    report = step_report(step, architecture, parameters, removed, parts, removal.errors, removal.notes, removal.timing)
    details: dict[str, Any] = {**report.details, "removals": [after.model_dump() for after in removal.removals]}
    notes = list(report.notes)
    if diverging := [after for after in removal.removals if _diverges(after)]:
        details[HELD_OUT_DISAGREEMENT] = [
            *details.get(HELD_OUT_DISAGREEMENT, ()),
            *(after.layer for after in diverging),
        ]
        last = diverging[-1]
        notes.append(
            f"{last.layer}: once it is removed, the model diverges by {last.held_out:.3f} nats per token on held-out "
            f"samples, and by {last.divergence:.3f} on those of the fit, so it may err more on other data; give more "
            "samples, or keep more layers"
        )
    return replace(report, details=details, notes=tuple(notes))


def _diverges(removal: LayerRemoval) -> bool:
    if removal.divergence is None or removal.held_out is None:
        return False
    return removal.held_out > _FACTOR * removal.divergence and removal.held_out > removal.divergence + _LEAST_NATS
