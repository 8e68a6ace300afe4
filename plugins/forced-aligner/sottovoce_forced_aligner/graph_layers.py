"""The layers of the text side as they are traced, with the names that they have in transformers."""

# Calling a module gives Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.formats.float_layers import as_float
from sottovoce.formats.traced_layers import split_heads, turned


class RMSNorm(nn.Module):
    """Normalization by the root mean square."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def rms_norm_of(norm: Any) -> RMSNorm:
    """Return a layer of transformers, also a faster one, with the same weight."""
    return RMSNorm(norm.weight, float(norm.variance_epsilon))


class TextAttention(nn.Module):
    """Attention of a token to those before it; groups of queries share keys and values."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.head_dim, self.scaling = int(attention.head_dim), float(attention.scaling)
        self.q_proj, self.k_proj = as_float(attention.q_proj), as_float(attention.k_proj)
        self.v_proj, self.o_proj = as_float(attention.v_proj), as_float(attention.o_proj)
        self.q_norm, self.k_norm = rms_norm_of(attention.q_norm), rms_norm_of(attention.k_norm)
        self.shared = int(attention.q_proj.out_features) // int(attention.k_proj.out_features)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        """Attend; ``x`` is ``[1, tokens, width]``, ``mask`` is added to the scores."""
        query = self.q_norm(self.q_proj(x).unflatten(-1, (-1, self.head_dim))).transpose(1, 2)
        key = self.k_norm(self.k_proj(x).unflatten(-1, (-1, self.head_dim))).transpose(1, 2)
        value = split_heads(self.v_proj(x), self.head_dim)
        query, key = turned(query, cosine, sine), turned(key, cosine, sine)
        key, value = (part.repeat_interleave(self.shared, dim=1) for part in (key, value))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scaling)
        return self.o_proj(attended.transpose(1, 2).flatten(2))


class TextLayer(nn.Module):
    """Layer of the text side."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.self_attn = TextAttention(layer.self_attn)
        self.input_layernorm = rms_norm_of(layer.input_layernorm)
        self.post_attention_layernorm = rms_norm_of(layer.post_attention_layernorm)
        self.gate_proj, self.up_proj = as_float(layer.mlp.gate_proj), as_float(layer.mlp.up_proj)
        self.down_proj, self.act_fn = as_float(layer.mlp.down_proj), layer.mlp.act_fn

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        """Return as many tokens as ``x`` ``[1, tokens, width]``."""
        x = x + self.self_attn(self.input_layernorm(x), cosine, sine, mask)
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(self.act_fn(self.gate_proj(y)) * self.up_proj(y))
