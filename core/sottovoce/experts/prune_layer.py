"""Pruning of one layer's experts: merge, remove, rescale, and measure the change of the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sottovoce.experts.gate_rescaling import (
    copy_output_tensors,
    gate_rescale,
    rescale_experts_,
    restore_output_tensors_,
)
from sottovoce.experts.merge import merge_experts_, router_similarity
from sottovoce.experts.output_change import OutputChange, compare_outputs, routed_output
from sottovoce.experts.removal import prune_experts_in_layer_
from sottovoce.runtime.experts import Experts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sottovoce.calibration.routing import Routed
    from sottovoce.experts.tokens import LayerTokens

_UNDONE = "rescaling by the growth of gate values was undone: it would have raised the output error"
_NOT_RESCALED = "the gate values of the remaining experts have grown; rescaling them needs samples"


@dataclass(frozen=True)
class LayerChange:
    """Changes of one layer, besides the removal itself."""

    merged_into: dict[int, int] | None
    """By removed expert, the expert that it was averaged into; ``None`` without merging."""
    gate_factors: Tensor | None
    """Factors that the remaining experts' outputs were multiplied by ``[kept]``."""
    output: OutputChange | None
    """``None`` without tokens to measure it on."""
    notes: tuple[str, ...] = ()


def prune_layer_(
    experts: Experts, router: nn.Module, kept: Sequence[int], tokens: LayerTokens, merge_by: Tensor | None = None
) -> LayerChange:
    """Remove all experts but ``kept`` from a layer, in place.

    Args:
        experts: The experts of the layer.
        router: Their router.
        kept: Numbers of the experts that stay, in rising order.
        tokens: Tokens to rescale by, and to measure the change of the output on.
        merge_by: Weight of every expert ``[experts]`` when removed experts are averaged into those that stay; by
            default they are not.

    Raises:
        CoverageError: An expert is quantized already, or the router is of an unknown kind.
    """
    evaluation = tokens.evaluation
    before = routed_output(experts, router, evaluation.hidden) if evaluation else None
    merged = None if merge_by is None else _merge_(experts, router, kept, merge_by, tokens.calibration)
    prune_experts_in_layer_(experts, router, kept)
    change = None
    if evaluation is not None and before is not None:
        change = compare_outputs(before, routed_output(experts, router, evaluation.hidden))
    factors = gate_rescale(router, tokens.calibration, kept) if tokens.calibration else None
    if factors is None:
        grown = tokens.calibration is None and getattr(router, "norm_topk_prob", True) is False
        return LayerChange(merged, None, change, (_NOT_RESCALED,) if grown else ())
    copies = copy_output_tensors(experts)
    rescale_experts_(experts, factors)
    if evaluation is None or before is None or change is None:
        return LayerChange(merged, factors, None)
    rescaled = compare_outputs(before, routed_output(experts, router, evaluation.hidden))
    if rescaled.error <= change.error:
        return LayerChange(merged, factors, rescaled)
    restore_output_tensors_(experts, copies)
    return LayerChange(merged, None, change, (_UNDONE,))


@torch.no_grad()
def _merge_(
    experts: Experts, router: nn.Module, kept: Sequence[int], score: Tensor, routed: Routed | None
) -> dict[int, int]:
    rows: Any = router.weight if routed is None else router(routed.hidden)[0].t()
    return merge_experts_(experts, score, kept, router_similarity(rows))
