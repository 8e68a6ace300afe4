"""Choice of the experts of a layer that stay: the most salient, those that a kind of token needs, and super experts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, zip_longest

from torch import Tensor

from sottovoce.errors import RecipeError
from sottovoce.experts.saliency import Saliency
from sottovoce.experts.step import SaliencyMetric
from sottovoce.report.number_format import counted

_OF_LARGEST = 0.1
"""Share of the largest activation so far that a super expert's activation exceeds, as in REAP's code."""
_OVER_MEDIAN = 10.0
"""Multiple of its layer's median that a super expert's largest activation exceeds."""


@dataclass(frozen=True)
class Choice:
    """Experts of a layer that stay, with the reasons other than saliency."""

    kept: tuple[int, ...]
    """All of them, in rising order."""
    protected: Mapping[str, tuple[int, ...]]
    """Experts that are protected for a modality's tokens, by modality; most would stay without it."""
    super_experts: tuple[int, ...]
    """Those of :func:`find_super_experts`, in rising order."""
    notes: tuple[str, ...] = ()


def kept_count(keep: float, experts: int, top_k: int) -> int:
    """Return the number of experts that ``keep`` means: a whole number as it is, a share rounded to nearest, halves up.

    Raises:
        RecipeError: The number is less than a token is routed to, or more than there are.
    """
    count = keep if isinstance(keep, int) else math.floor(keep * experts + 0.5)
    if isinstance(keep, bool) or keep <= 0 or not top_k <= count <= experts:
        raise RecipeError(
            f"keep: {keep} of {counted(experts, 'expert')} means {count}; a token is routed to {top_k}, "
            f"so keep between {top_k} and {experts}"
        )
    return count


def choose_experts(
    saliency: Saliency,
    keep: int,
    metric: SaliencyMetric = "reap",
    protect: Mapping[str, float] | None = None,
    super_experts: bool = True,
    largest_so_far: float = 0.0,
) -> Choice:
    """Choose ``keep`` experts: super experts first, then the protected ones, then by saliency over all tokens.

    Of experts with equal scores the first stays. If super and protected experts are more than ``keep``, the protected
    are taken in the order of their scores: the best of every modality, then the second best, and so on.

    Args:
        saliency: Saliency of the layer's experts.
        keep: Number of experts that stay.
        metric: Measure to choose by.
        protect: By modality, the share of all experts to protect for its tokens; an expert that none of them was
            routed to is not protected.
        super_experts: If true, super experts stay, see :func:`find_super_experts`.
        largest_so_far: Largest activation of the experts in the layers before.

    Raises:
        RecipeError: A modality is protected that was not measured.
    """
    supers = find_super_experts(saliency.largest, largest_so_far) if super_experts else ()
    protected = {modality: _best(saliency, metric, modality, share) for modality, share in (protect or {}).items()}
    in_turn = (expert for rank in zip_longest(*protected.values()) for expert in rank if expert is not None)
    order = [*supers, *in_turn, *ranking(saliency.score(metric))]
    kept = frozenset(list(dict.fromkeys(order))[:keep])
    kept_for = {modality: tuple(sorted(kept & set(experts))) for modality, experts in protected.items()}
    count = len({*supers, *(expert for experts in protected.values() for expert in experts)})
    notes = []
    if count > keep:
        all_of_them = counted(count, "expert is", "experts are")
        notes.append(f"{all_of_them} super or protected, but only {keep} {'is' if keep == 1 else 'are'} kept")
    return Choice(tuple(sorted(kept)), kept_for, tuple(sorted(kept & set(supers))), tuple(notes))


def find_super_experts(largest: Tensor, largest_so_far: float = 0.0) -> tuple[int, ...]:
    """Find the experts that produce massive activations, the largest first.

    REAP's code (after Su et al., "Unveiling Super Experts in Mixture-of-Experts Large Language Models",
    https://arxiv.org/abs/2507.23279) calls super whatever exceeds both the 99.5th percentile and a tenth of the largest
    activation of all layers. Here layers are pruned one after another and later ones are not measured yet, so an
    expert has to exceed a tenth of the largest activation up to this layer and, in place of the percentile, ten times
    the median of the experts of its layer that any token reached.

    Args:
        largest: Largest absolute output of every expert ``[experts]``, 0 for one that no token reached.
        largest_so_far: The largest of the layers before.
    """
    reached = largest[largest > 0]
    if not len(reached):
        return ()
    median = float(reached.quantile(0.5))
    bound = max(_OF_LARGEST * max(float(largest.max()), largest_so_far), _OVER_MEDIAN * median)
    return tuple(expert for expert in ranking(largest) if float(largest[expert]) > bound)


def ranking(score: Tensor) -> list[int]:
    """Sort the experts by falling score ``[experts]``; of equal ones the first comes first."""
    order: list[int] = score.argsort(descending=True, stable=True).tolist()
    return order


def _best(saliency: Saliency, metric: SaliencyMetric, modality: str, share: float) -> list[int]:
    # 0.1 of 30 is 3, but slightly more in floating point.
    count = math.ceil(round(share * saliency.experts, 6))
    tokens = saliency.score("frequency", modality)
    reached = (expert for expert in ranking(saliency.score(metric, modality)) if float(tokens[expert]) > 0)
    return list(islice(reached, count))
