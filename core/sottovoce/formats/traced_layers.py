"""Layers of towers and decoders as they are traced: transformers' weights, any length, and no branch on data.

Attribute names are transformers', so that nodes are found by them. Windowed attention is a batch of windows with a mask
of keys, where the library splits by lengths.
"""

# Calling a module gives Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.formats.float_layers import as_float

_MASKED = -1e9


def mask_of(hidden: Tensor) -> Tensor:
    """Return what is added to scores: nothing, and very little where ``hidden`` is true."""
    return hidden.to(torch.float32) * _MASKED


def hidden_behind(lengths: Tensor, x: Tensor) -> Tensor:
    """Return a mask ``[windows, 1, 1, positions]`` of what lies behind the real positions.

    Args:
        lengths: Number of real positions ``[windows]``, which come first.
        x: Positions ``[windows, positions, ...]``.
    """
    places = torch.arange(x.shape[1], device=x.device)
    return mask_of(places[None] >= lengths[:, None])[:, None, None]


def split_heads(x: Tensor, width: int) -> Tensor:
    """Return ``[batch, heads, positions, width]`` of ``[batch, positions, heads * width]``."""
    return x.reshape(x.shape[0], x.shape[1], -1, width).transpose(1, 2)


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return queries or keys with their rotary embedding."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def plain_conv(convolution: Any) -> nn.Conv2d:
    """Return a convolution that takes all chunks at once: a faster one splits them by their number as it is traced.

    Its weights lie in memory as they are by default, which XNNPACK insists on.
    """
    sizes = convolution.in_channels, convolution.out_channels, convolution.kernel_size
    plain = nn.Conv2d(*sizes, convolution.stride, convolution.padding, device="meta")
    plain.weight = nn.Parameter(convolution.weight.detach().contiguous(), requires_grad=False)
    plain.bias = convolution.bias
    return plain


class AudioAttention(nn.Module):
    """Attention of every position to the real ones of its window."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.head_dim, self.scaling = int(attention.head_dim), float(attention.scaling)
        self.q_proj, self.k_proj = as_float(attention.q_proj), as_float(attention.k_proj)
        self.v_proj, self.out_proj = as_float(attention.v_proj), as_float(attention.out_proj)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend; ``x`` is ``[windows, positions, width]``, ``mask`` is added to the scores."""
        query, key, value = (split_heads(part(x), self.head_dim) for part in (self.q_proj, self.k_proj, self.v_proj))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scaling)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class AudioLayer(nn.Module):
    """Layer of an audio tower."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.self_attn = AudioAttention(layer.self_attn)
        self.self_attn_layer_norm, self.final_layer_norm = layer.self_attn_layer_norm, layer.final_layer_norm
        self.fc1, self.fc2, self.activation_fn = as_float(layer.fc1), as_float(layer.fc2), layer.activation_fn

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return as many positions as ``x`` ``[windows, positions, width]``."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        return x + self.fc2(self.activation_fn(self.fc1(self.final_layer_norm(x))))


class ConvolvedAudio(nn.Module):
    """Audio tower that halves chunks of frames three times, and attends within windows of whole chunks."""

    positions: Tensor
    """Positional embedding ``[positions, width]`` of a chunk."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.conv2d1, self.conv2d2, self.conv2d3 = map(plain_conv, (tower.conv2d1, tower.conv2d2, tower.conv2d3))
        self.conv_out = as_float(tower.conv_out)
        self.register_buffer("positions", tower.positional_embedding.positional_embedding.float(), persistent=False)
        self.layers = nn.ModuleList([AudioLayer(layer) for layer in tower.layers])
        self.ln_post = tower.ln_post

    def embed(self, chunks: Tensor) -> Tensor:
        """Turn frames ``[chunks, mels, frames]`` into ``[chunks, positions, width]``."""
        x = chunks.unsqueeze(1)
        for convolution in (self.conv2d1, self.conv2d2, self.conv2d3):
            x = functional.gelu(convolution(x))
        x = self.conv_out(x.permute(0, 3, 1, 2).flatten(2))
        return x + self.positions[: x.shape[1]]

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """Run the layers on windows ``[windows, positions, width]``; ``mask`` hides what is not real."""
        for layer in self.layers:
            x = layer(x, mask)
        return self.ln_post(x)
