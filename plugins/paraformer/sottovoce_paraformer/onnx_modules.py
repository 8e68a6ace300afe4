"""The recognizer as a graph: FunASR's weights in modules that trace with any batch and any length.

FunASR's own classes decide by the data while they run (how many tokens fired, which batch entry is longest), which no
tracer can follow. These modules hold the same layers, compute the same numbers and never branch on data. Attribute
names are FunASR's, so that a node's name in the graph says which layer it came from.
"""

# Calling a module gives Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.formats.float_layers import as_float as as_float
from sottovoce_paraformer.heads import PrunedSelfAttention, projected_widths, value_columns

_MASKED = -1e9


class Mask(NamedTuple):
    """Mask of the real positions of a padded batch.

    ``frames`` is 1 or 0 as ``[batch, time, 1]``; ``scores`` is what masked attention scores get added, as
    ``[batch, 1, 1, time]``: large enough that their weight is exactly zero.
    """

    frames: Tensor
    scores: Tensor


def length_mask(lengths: Tensor, positions: Tensor) -> Mask:
    """Return the mask of a batch with ``lengths`` ``[batch]`` over ``positions`` ``[time]``."""
    inside = (positions < lengths[:, None]).to(torch.float32)
    return Mask(inside[:, :, None], ((1.0 - inside) * _MASKED)[:, None, None, :])


class Attention(nn.Module):
    """Scaled dot-product attention over heads; the projections belong to the caller."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.width = width

    def parts(self, projected: Tensor) -> tuple[Tensor, ...]:
        """Split what was projected at once into parts of ``[batch, time, heads * width]``."""
        return projected.split(self.heads * self.width, dim=-1)  # type: ignore[no-untyped-call]

    def weights(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention weights ``[batch, heads, query, key]``."""
        scores = (self._split(query) * self.width**-0.5) @ self._split(key).transpose(-2, -1)
        return torch.softmax(scores if mask is None else scores + mask, dim=-1)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend; all tensors are ``[batch, time, heads * width]``."""
        attended = self.weights(query, key, mask) @ self._split(value)
        return attended.transpose(1, 2).reshape(query.shape[0], -1, self.heads * self.width)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.heads, self.width).transpose(1, 2)


class Memory(nn.Module):
    """The memory block (FSMN): a depthwise convolution over time plus its input."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        left, right = attention.pad_fn.padding
        weight = attention.fsmn_block.weight.detach().to(torch.float32).clone()
        # Adding the input is one more tap of the kernel, at the frame itself.
        weight[:, 0, left] += 1.0
        width, _, size = weight.shape
        # What is padded on both sides the convolution does by itself, which saves a copy.
        even = min(left, right)
        self.fsmn_block = nn.Conv1d(width, width, size, padding=even, groups=width, bias=False, device="meta")
        self.fsmn_block.weight = nn.Parameter(weight, requires_grad=False)
        self.padding = (left - even, right - even)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """Convolve ``x`` ``[batch, time, width]``; padded frames neither give nor get anything."""
        x = (x * frames).transpose(1, 2)
        if any(self.padding):
            x = functional.pad(x, self.padding)
        return self.fsmn_block(x).transpose(1, 2) * frames


class SelfAttention(nn.Module):
    """The encoder's attention: every frame to every frame, plus the memory of the values."""

    value_columns: Tensor | None

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.linear_q_k_v = as_float(attention.linear_q_k_v)
        self.linear_out = as_float(attention.linear_out)
        self.memory = Memory(attention)
        self.attention = Attention(attention.h, attention.d_k)
        self.widths = projected_widths(attention)
        pruned = isinstance(attention, PrunedSelfAttention)
        self.register_buffer("value_columns", value_columns(attention) if pruned else None, persistent=False)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Attend within ``x`` ``[batch, time, width]``."""
        query, key, value = torch.split(self.linear_q_k_v(x), self.widths, dim=-1)
        read = value if self.value_columns is None else value.index_select(-1, self.value_columns)
        return self.linear_out(self.attention(query, key, read, mask.scores)) + self.memory(value, mask.frames)


class CrossAttention(nn.Module):
    """The decoder's attention: every token to every frame, or to every hotword."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.linear_q = as_float(attention.linear_q)
        self.linear_k_v = as_float(attention.linear_k_v)
        self.linear_out = as_float(attention.linear_out)
        self.attention = Attention(attention.h, attention.d_k)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from ``x`` ``[batch, tokens, width]`` to ``memory`` ``[batch, time, width]``."""
        key, value = self.attention.parts(self.linear_k_v(memory))
        return self.linear_out(self.attention(self.linear_q(x), key, value, mask))

    def weights(self, x: Tensor, memory: Tensor) -> Tensor:
        """Return the attention weights ``[batch, heads, tokens, time]`` alone, nothing masked."""
        key, _ = self.attention.parts(self.linear_k_v(memory))
        return self.attention.weights(self.linear_q(x), key, None)


class FeedForward(nn.Module):
    """Two linear layers; the decoder's has a norm between them."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.w_1 = as_float(layer.w_1)
        self.w_2 = as_float(layer.w_2)
        self.norm = getattr(layer, "norm", nn.Identity())
        self.activation = layer.activation

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer, ``[batch, time, width]`` in and out."""
        return self.w_2(self.norm(self.activation(self.w_1(x))))


class EncoderLayer(nn.Module):
    """One block of the encoder."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.self_attn = SelfAttention(layer.self_attn)
        self.feed_forward = FeedForward(layer.feed_forward)
        self.residual = layer.in_size == layer.size

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Run the layer, ``[batch, time, width]`` in and out."""
        attended = self.self_attn(self.norm1(x), mask)
        x = x + attended if self.residual else attended
        return x + self.feed_forward(self.norm2(x))


class Encoder(nn.Module):
    """Features to acoustic embeddings; the parts are those of a FunASR ``SANMEncoder``."""

    frequencies: Tensor

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoders0 = nn.ModuleList(EncoderLayer(layer) for layer in encoder.encoders0)
        self.encoders = nn.ModuleList(EncoderLayer(layer) for layer in encoder.encoders)
        self.after_norm = encoder.after_norm
        self.scale = encoder.output_size() ** 0.5
        self.width: int = encoder.encoders0[0].in_size
        self.positional = encoder.embed is not None
        indices = torch.arange(self.width // 2, dtype=torch.float32)
        scale = torch.log(torch.tensor(10000.0)) / (self.width / 2 - 1)
        self.register_buffer("frequencies", torch.exp(indices * -scale), persistent=False)

    def forward(self, speech: Tensor, positions: Tensor, mask: Mask) -> Tensor:
        """Encode ``[batch, time, features]`` as ``[batch, time, width]``."""
        x = speech * self.scale
        if self.positional:
            angles = (positions + 1).to(torch.float32)[:, None] * self.frequencies
            x = x + torch.cat((torch.sin(angles), torch.cos(angles)), dim=-1)
        for layer in (*self.encoders0, *self.encoders):
            x = layer(x, mask)
        return self.after_norm(x)
