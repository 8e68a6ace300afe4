"""Attention with fewer heads than FunASR's classes allow.

FunASR has as many query and key heads as heads of values. In SAN-M all values feed the memory, so they stay when a head
is removed: its queries and keys go, and the columns of ``linear_out`` that read it. In the decoder's attention to the
frames, whose values feed nothing else, all of a head goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from funasr.models.sanm.attention import MultiHeadedAttentionCrossAtt, MultiHeadedAttentionSANM
from torch import Tensor, nn

from sottovoce import Model
from sottovoce.errors import SourceError
from sottovoce.pruning.obs import columns_of
from sottovoce.pruning.slicing import keep_groups_of_columns_, keep_groups_of_rows_, keep_rows_
from sottovoce.text.plain_text import one_line
from sottovoce_paraformer.configuration_keys import KEPT_HEADS


class PrunedSelfAttention(MultiHeadedAttentionSANM):  # type: ignore[misc]  # FunASR is not typed
    """A SAN-M attention of which some heads are gone.

    ``linear_q_k_v`` has the queries and keys of the heads that stay, and all values.
    """

    kept_heads: tuple[int, ...]
    """Numbers of the heads that stay, among those of the values."""

    def forward_qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Project ``x`` ``[batch, time, in]``.

        Returns:
            Queries, keys and values of the heads that stay, ``[batch, heads, time, d_k]``, and all values ``[batch,
            time, width]``.
        """
        query, key, value = torch.split(self.linear_q_k_v(x), projected_widths(self), dim=-1)
        heads = (_heads(part, self.d_k) for part in (query, key, value.index_select(-1, value_columns(self))))
        return (*heads, value)  # type: ignore[return-value]


def _heads(x: Tensor, width: int) -> Tensor:
    return x.reshape(*x.shape[:2], -1, width).transpose(1, 2)


def projected_widths(attention: Any) -> list[int]:
    """Return the widths of queries, keys and values in the output of a SAN-M attention's ``linear_q_k_v``."""
    width = attention.h * attention.d_k
    return [width, width, int(attention.fsmn_block.in_channels)]


def value_columns(attention: Any) -> Tensor:
    """Return the columns of the values that a pruned SAN-M attention's heads read ``[heads * d_k]``."""
    return columns_of(attention.kept_heads, attention.d_k, attention.fsmn_block.weight.device)


def count(attention: Any) -> int:
    """Return the number of heads of an attention."""
    return int(attention.h)


def remove(model: Model, name: str, kept: Sequence[int]) -> None:
    """Remove all heads of an attention but those of the numbers ``kept``, in place."""
    keep_heads_(model.module.get_submodule(name), kept)


def keep_heads_(attention: Any, kept: Sequence[int]) -> None:
    """Remove all heads of a FunASR attention but those of the numbers ``kept``."""
    heads = attention.h
    if isinstance(attention, MultiHeadedAttentionSANM):
        rows = columns_of([*kept, *(heads + head for head in kept)], attention.d_k).tolist()
        values = range(2 * heads * attention.d_k, attention.linear_q_k_v.out_features)
        keep_rows_(attention.linear_q_k_v, [*rows, *values])
        attention.__class__ = PrunedSelfAttention
    else:
        keep_groups_of_rows_(attention.linear_q, kept, heads)
        keep_groups_of_rows_(attention.linear_k_v, [*kept, *(heads + head for head in kept)], 2 * heads)
    keep_groups_of_columns_(attention.linear_out, kept, heads)
    before = getattr(attention, "kept_heads", range(heads))
    attention.kept_heads = tuple(before[head] for head in kept)
    attention.h = len(kept)


def describe(module: nn.Module) -> dict[str, list[int]]:
    """Return the heads that stay, by the name of the attention; those with all heads are left out."""
    return {name: list(child.kept_heads) for name, child in module.named_modules() if hasattr(child, "kept_heads")}


def prepare_(module: nn.Module, kept_heads: Any, where: str) -> None:
    """Give a module that was built with all heads the attentions that :func:`describe` described.

    Args:
        module: The module, before its weights are loaded.
        kept_heads: What its configuration says, from anyone.
        where: Name of the checkpoint, for errors.

    Raises:
        SourceError: The description is damaged, or does not fit the module.
    """
    if not isinstance(kept_heads, Mapping):
        raise SourceError(f"{where}: {KEPT_HEADS} must be a mapping, not {type(kept_heads).__name__}")
    attentions = {
        name: child
        for name, child in module.named_modules()
        if type(child) in (MultiHeadedAttentionSANM, MultiHeadedAttentionCrossAtt)
    }
    for name, kept in kept_heads.items():
        if name not in attentions:
            raise SourceError(
                f"{where}: {KEPT_HEADS} names {one_line(repr(name), 60)}, which is not an attention with heads"
            )
        if not _are_heads(kept, attentions[name].h):
            shown = one_line(repr(kept), 60)
            raise SourceError(f"{where}: {KEPT_HEADS}.{name} is {shown}, not rising numbers below {attentions[name].h}")
        keep_heads_(attentions[name], kept)


def _are_heads(kept: Any, heads: Any) -> bool:
    if not isinstance(kept, list | tuple) or not kept or any(type(head) is not int for head in kept):
        return False
    return list(kept) == sorted(set(kept)) and kept[0] >= 0 and kept[-1] < heads
