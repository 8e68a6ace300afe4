"""Report of a pruning step as JSON: its parts, and every layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sottovoce.experts.saliency import Saliency

if TYPE_CHECKING:
    from sottovoce.experts.layers import ExpertLayer
    from sottovoce.experts.prune_layer import LayerChange
    from sottovoce.experts.selection import Choice

ALL = "all"
"""Name in a report for the tokens of all kinds together."""
SALIENCY = "saliency"
_INTERNAL = (SALIENCY, "notes", "removed_parameters")


def part_details(layers: Iterable[ExpertLayer]) -> dict[str, dict[str, Any]]:
    """Return, by part of the model, the numbers of experts and layers and the measure of saliency."""
    parts: dict[str, dict[str, Any]] = {}
    for layer in layers:
        first = {"experts": layer.experts, "kept": layer.keep, "saliency": layer.step.saliency, "layers": 0}
        parts.setdefault(layer.layout.part, first)["layers"] += 1
    return parts


def layer_details(layer: ExpertLayer, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a pruned layer that belong into the report, with its experts' scores by kind of token."""
    details = {key: value for key, value in facts.items() if key not in _INTERNAL}
    if facts[SALIENCY]:
        saliency, metric = Saliency.from_dict(facts[SALIENCY]), layer.step.saliency
        scores = {kind: saliency.score(metric, modality).tolist() for kind, modality in _kinds(saliency)}
        details["scores"] = {kind: [float(f"{value:.4g}") for value in score] for kind, score in scores.items()}
    return details


def layer_facts(choice: Choice, saliency: Saliency, change: LayerChange, held_out: bool) -> dict[str, Any]:
    """Return the facts of a pruned layer, in the form in which interrupted work resumes from them."""
    merged, factors, output = change.merged_into, change.gate_factors, change.output
    shares = {kind: saliency.routed_share(choice.kept, modality) for kind, modality in _kinds(saliency)}
    return {
        "protected": {kind: list(numbers) for kind, numbers in choice.protected.items()},
        "super_experts": list(choice.super_experts),
        "merged_into": merged and {str(expert): target for expert, target in merged.items()},
        "routed_share": _round(shares),
        "gate_growth": None if factors is None else float(f"{1 / float(factors.mean()):.6g}"),
        "damage": output and _round(asdict(output)) | {"held_out": held_out},
        SALIENCY: saliency.to_dict(),
        "notes": [*choice.notes, *change.notes],
    }


def _round(numbers: Mapping[str, float]) -> dict[str, float]:
    """Round to six significant digits."""
    return {name: float(f"{number:.6g}") for name, number in numbers.items()}


def _kinds(saliency: Saliency) -> Iterator[tuple[str, str | None]]:
    yield ALL, None
    yield from ((kind, kind) for kind in saliency.modalities if kind != ALL)
