"""Numbers of experts to keep that follow from how often each expert is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from sottovoce.errors import CoverageError
from sottovoce.experts.usage import used_experts
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from sottovoce.experts.layers import ExpertLayer


def keep_by_usage(
    layers: Mapping[str, ExpertLayer], counts: Mapping[str, Tensor], step: str
) -> tuple[dict[str, ExpertLayer], list[str]]:
    """Keep as many experts in every layer of a part as its most demanding layer has above the threshold.

    Args:
        layers: All layers that are pruned, by the name of the experts' module.
        counts: By the same names, the tokens of each expert ``[experts]``, for the layers that have a threshold.
        step: Name of the step, for the error.

    Returns:
        The layers with the numbers to keep, and a note for each part.

    Raises:
        CoverageError: All experts would stay.
    """
    keep: dict[str, int] = {}
    for name, tokens in counts.items():
        layer = layers[name]
        used = used_experts(tokens, layer.step.threshold or 0.0)
        keep[layer.layout.part] = max(keep.get(layer.layout.part, layer.top_k), used)
    if all(keep[layer.layout.part] == layer.experts for layer in layers.values()):
        raise CoverageError(
            f"{step}: in every part a layer has all of its experts above the threshold, so none would be removed; "
            "give a larger threshold, or keep"
        )
    experts = {layer.layout.part: layer.experts for layer in layers.values()}
    notes = [
        f"{part}: {count} of {counted(experts[part], 'expert')} stay in every layer by the threshold"
        for part, count in keep.items()
    ]
    changed = {name: replace(layers[name], keep=keep[layers[name].layout.part]) for name in counts}
    return {**layers, **changed}, notes
