"""Attention in blocks of queries by two products, for bfloat16 on CPUs without AMX.

PyTorch's own took about twice the time on one (a Zen 4): its kernel does not use such a processor's bfloat16 products
as well as ``bmm`` does, and in blocks the scores stay in the cache. With AMX it is the other way round, and nothing is
changed. What the blocks do not take goes to the library's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.runtime.backends import onednn

NAME = "sottovoce_blocks"
"""Name of this attention in transformers."""
_BLOCK = 128


def install_(module: Any) -> bool:
    """Let a transformers model attend in blocks; nothing of that is written when the model is saved.

    Returns:
        True if it does. It does not where PyTorch's own attention is faster.
    """
    if onednn.tiles():
        return False
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    module.set_attn_implementation(NAME)
    return True


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers asks of an attention function.

    Args:
        module: The attention layer.
        query: ``[batch, heads, queries, width]``.
        key: ``[batch, groups, keys, width]``; a group serves ``heads / groups`` heads.
        value: As ``key``.
        attention_mask: ``None`` where all or, for causal attention, all earlier keys are seen.
        dropout: For training.
        scaling: Factor of the scores; by default one over the root of the width.
        is_causal: If true, a query sees only keys up to its own; by default the layer's setting.
        **options: What other attention functions take.

    Returns:
        ``[batch, queries, heads, width]`` and no weights.
    """
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal) and query.shape[2] > 1
    plain = attention_mask is None and query.dtype == torch.bfloat16 and query.device.type == "cpu"
    recorded = torch.is_grad_enabled() and query.requires_grad
    square = not causal or query.shape[2] == key.shape[2]
    if not plain or recorded or not square or options.get("sliding_window") or not onednn.bfloat16():
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **options
        )
        return result
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _blocks(query, key, value, scale, causal), None


def _blocks(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> Tensor:
    """Return ``[batch, queries, heads, width]``."""
    batch, heads, length, width = query.shape
    groups, size = batch * key.shape[1], heads // key.shape[1]
    queries = query.view(batch, -1, size, length, width)
    keys = key.reshape(groups, -1, width).transpose(1, 2).contiguous()
    values = value.reshape(groups, -1, width)
    out = torch.empty(batch, length, heads, width, dtype=query.dtype)
    into = out.transpose(1, 2).view(batch, -1, size, length, width)
    hidden = torch.full((_BLOCK, _BLOCK), -torch.inf, dtype=query.dtype).triu_(1)
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        seen = end if causal else keys.shape[2]
        rows = queries[:, :, :, start:end].clone(memory_format=torch.contiguous_format)
        rows = rows.mul_(scale).view(groups, -1, width)
        scores = torch.bmm(rows, keys[:, :, :seen]).view(groups, size, end - start, seen)
        if causal:
            scores[..., start:] += hidden[: end - start, : end - start]
        weights = scores.softmax(-1).view(groups, -1, seen)
        into[:, :, :, start:end] = torch.bmm(weights, values[:, :seen]).view(batch, -1, size, end - start, width)
    return out
