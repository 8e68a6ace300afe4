"""SAN-M layers in int8 products on the CPU: what FunASR's layers compute, computed otherwise.

* The valid rows of a padded batch are laid end to end. No layer computes on padding, and no mask is needed.
* One quantization serves every product that reads the same tensor; ReLU and the residual are added by the products.
* The factor of the scores is folded into the scale of the queries.
* Attention runs in bfloat16 where the CPU has instructions for it.
* The FSMN memory is a channels-last convolution, with its identity folded into the kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from funasr.models.sanm.attention import (
    MultiHeadedAttentionCrossAtt,
    MultiHeadedAttentionSANM,
    MultiHeadedAttentionSANMDecoder,
)
from funasr.models.sanm.positionwise_feed_forward import PositionwiseFeedForwardDecoderSANM
from funasr.models.transformer.positionwise_feed_forward import PositionwiseFeedForward
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.runtime.backends import instructions, onednn
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.packed_linear import PackedLinear
from sottovoce_paraformer.heads import PrunedSelfAttention, projected_widths, value_columns

_WHOLE, _BLOCK = 512, 256
"""Queries that are attended at once, and in blocks of which longer inputs are: their scores then stay in the cache."""
_NARROW = 256
"""Width of all heads up to which attention is computed in float32."""
_MULTIPLE = 16
"""Rows that bfloat16 attention and the FSMN memory are filled up to a multiple of: oneDNN keeps a kernel for each
number of them for ever, whatever ONEDNN_PRIMITIVE_CACHE_CAPACITY says."""


class NonFiniteRowsError(ArithmeticError):
    """An activation is infinite or not a number; int8 cannot say that, FunASR's forward can."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Places of the valid rows of a padded batch ``[batch, size, ...]`` when they are laid end to end."""

    lengths: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, mask: Tensor | None, x: Tensor) -> Layout | None:
        """Read a mask ``[batch, 1, size]`` or ``[batch, size, 1]``.

        Returns:
            ``None`` when the mask is of another form, does not belong to ``x``, or leaves nothing.
        """
        batch, size = x.shape[:2]
        if mask is None or mask.shape not in ((batch, 1, size), (batch, size, 1)):
            return None
        valid = mask.reshape(batch, size).ne(0)
        lengths = valid.sum(1)
        if not torch.equal(valid, torch.arange(size) < lengths[:, None]) or not bool(lengths.any()):
            return None
        return cls(tuple(lengths.tolist()), size)

    @property
    def full(self) -> bool:
        """True if there is no padding."""
        return min(self.lengths) == self.size

    def rows(self, x: Tensor) -> Tensor:
        """Turn ``[batch, size, width]`` into ``[valid rows, width]``."""
        if self.full:
            return x.reshape(-1, x.shape[-1])
        return torch.cat([rows[:length] for rows, length in zip(x, self.lengths, strict=True)])

    def padded(self, rows: Tensor) -> Tensor:
        """Turn rows back into a padded batch; padding is zero."""
        if self.full:
            return rows.view(len(self.lengths), self.size, -1)
        x = rows.new_zeros(len(self.lengths), self.size, rows.shape[-1])
        for target, length, valid in zip(x, self.lengths, self.split(rows), strict=True):
            target[:length] = valid
        return x

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Split rows by utterance."""
        return (rows,) if len(self.lengths) == 1 else torch.split_with_sizes(rows, self.lengths)


class Memory:
    """FSMN: each channel plus a convolution over its own neighbours in time."""

    def __init__(self, attention: Any) -> None:
        """Read the kernel of FunASR's ``fsmn_block`` and its padding."""
        kernel = attention.fsmn_block.weight.detach().float().clone()
        left, right = attention.pad_fn.padding
        kernel[:, 0, left] += 1
        # Time is the inner of the two dimensions: oneDNN takes half the time that it takes with time as the outer one.
        self.kernel = kernel[:, :, None].contiguous(memory_format=torch.channels_last)
        self.pad = max(left, right)
        self.start = self.pad - left

    def __call__(self, x: Tensor, layout: Layout) -> Tensor:
        """Convolve ``[rows, width]`` of any float dtype, return new float32 ``[rows, width]``."""
        parts = [self._one(part) for part in layout.split(x) if len(part)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _one(self, x: Tensor) -> Tensor:
        length, width = x.shape
        # Zeros follow anyway: so there are fewer lengths, each of which oneDNN keeps a kernel for.
        padded = functional.pad(x.float(), (0, 0, 0, -length % _MULTIPLE)).contiguous()
        image = padded.view(1, 1, len(padded), width).permute(0, 3, 1, 2)
        image = functional.conv2d(image, self.kernel, padding=(0, self.pad), groups=width)
        return image.permute(0, 2, 3, 1).reshape(-1, width)[self.start : self.start + length]


class FusedEncoderLayer:
    """An ``EncoderLayerSANM`` as a few fused passes."""

    def __init__(self, layer: Any) -> None:
        """Pack the weights of ``layer``, which :meth:`fits`."""
        self.layer, attention = layer, layer.self_attn
        self.heads, self.width = attention.h, attention.h * attention.d_k
        self.widths = projected_widths(attention)
        pruned = isinstance(attention, PrunedSelfAttention)
        self.value_columns = value_columns(attention) if pruned else None
        self.project = _scale_queries(_packed(attention.linear_q_k_v), self.width, attention.d_k)
        self.out = _packed(attention.linear_out)
        self.memory = Memory(attention)
        self.expand, self.contract = _packed(layer.feed_forward.w_1), _packed(layer.feed_forward.w_2)
        self.round_project, self.round_out = rounding(attention.linear_q_k_v), rounding(attention.linear_out)
        self.round_expand, self.round_contract = rounding(layer.feed_forward.w_1), rounding(layer.feed_forward.w_2)

    @staticmethod
    def fits(layer: Any) -> bool:
        """Return whether ``layer`` is configured as published models are, and its linear layers are quantized."""
        attention, feed_forward = layer.self_attn, layer.feed_forward
        return (
            layer.normalize_before
            and not layer.concat_after
            and type(attention) in (MultiHeadedAttentionSANM, PrunedSelfAttention)
            and type(feed_forward) is PositionwiseFeedForward
            and isinstance(feed_forward.activation, nn.ReLU)
            and _are_quantized(attention.linear_q_k_v, attention.linear_out, feed_forward.w_1, feed_forward.w_2)
        )

    def __call__(self, x: Tensor, layout: Layout) -> Tensor:
        """Run the layer on float32 ``[rows, in]``, return new float32 ``[rows, width]``."""
        dtype = attention_dtype(self.layer.self_attn.linear_q_k_v, self.width)
        projected = onednn.linear(self.round_project(self.layer.norm1(x)), self.project, dtype=dtype)
        query, key, value = torch.split(projected, self.widths, dim=1)
        total = self.memory(value, layout)
        if self.layer.in_size == self.layer.size:
            total += x
        if self.value_columns is not None:
            value = value.index_select(1, self.value_columns)
        context = attend(query, key, value, self.heads, layout, layout)
        onednn.linear_add_(total, self.round_out(context), self.out)
        hidden = onednn.linear(self.round_expand(self.layer.norm2(total)), self.expand, relu=True)
        return onednn.linear_add_(total, self.round_contract(hidden), self.contract)


class FusedDecoderLayer:
    """A ``DecoderLayerSANM`` as a few fused passes."""

    def __init__(self, layer: Any) -> None:
        """Pack the weights of ``layer``, which :meth:`fits`; keys and values are :class:`DecoderStack`'s."""
        self.layer, attention = layer, layer.src_attn
        self.expand, self.contract = _packed(layer.feed_forward.w_1), _packed(layer.feed_forward.w_2)
        self.round_expand, self.round_contract = rounding(layer.feed_forward.w_1), rounding(layer.feed_forward.w_2)
        self.memory = None if layer.self_attn is None else Memory(layer.self_attn)
        if attention is not None:
            self.heads, self.width = attention.h, attention.h * attention.d_k
            self.query = _scale_queries(_packed(attention.linear_q), self.width, attention.d_k)
            self.out = _packed(attention.linear_out)
            self.round_query, self.round_out = rounding(attention.linear_q), rounding(attention.linear_out)

    @staticmethod
    def fits(layer: Any) -> bool:
        """Return whether ``layer`` is configured as published models are, and its linear layers are quantized."""
        memory, attention, feed_forward = layer.self_attn, layer.src_attn, layer.feed_forward
        return (
            layer.normalize_before
            and not layer.concat_after
            and not layer.reserve_attn
            and type(feed_forward) is PositionwiseFeedForwardDecoderSANM
            and isinstance(feed_forward.activation, nn.ReLU)
            and _are_quantized(feed_forward.w_1, feed_forward.w_2)
            and (memory is None or type(memory) is MultiHeadedAttentionSANMDecoder)
            and (attention is None or _cross_attention_fits(attention))
        )

    def __call__(self, x: Tensor, layout: Layout, memory: Tensor | None, memory_layout: Layout | None) -> Tensor:
        """Run the layer on float32 ``[rows, width]``, return new float32 ``[rows, width]``.

        Args:
            x: One row a token.
            layout: Of ``x``.
            memory: Keys and values of this layer, side by side, one row a frame.
            memory_layout: Of ``memory``.
        """
        layer = self.layer
        hidden = onednn.linear(self.round_expand(layer.norm1(x)), self.expand, relu=True)
        total = onednn.linear(self.round_contract(layer.feed_forward.norm(hidden)), self.contract)
        if self.memory is not None:
            total = self.memory(layer.norm2(total), layout).add_(x)
        if memory is None or memory_layout is None:
            return total
        dtype = attention_dtype(layer.src_attn.linear_q, self.width)
        query = onednn.linear(self.round_query(layer.norm3(total)), self.query, dtype=dtype)
        key, value = memory.chunk(2, dim=1)
        context = attend(query, key, value, self.heads, layout, memory_layout)
        return onednn.linear_add_(total, self.round_out(context), self.out)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, layout: Layout, memory_layout: Layout) -> Tensor:
    """Attend within each utterance, to itself or to its own frames; queries come scaled.

    Args:
        query: ``[rows, width]``, of one dtype with key and value ``[memory rows, width]``.
        key: See ``query``.
        value: See ``query``.
        heads: Number of heads, side by side in ``width``.
        layout: Of ``query``.
        memory_layout: Of ``key`` and ``value``.

    Returns:
        float32 ``[rows, width]``.
    """
    context = torch.empty(query.shape)
    utterances = zip(
        layout.split(query), memory_layout.split(key), memory_layout.split(value), layout.split(context), strict=True
    )
    for q, k, v, into in utterances:
        _attend_one(_heads(q, heads), _heads(k, heads), _heads(v, heads), _heads(into, heads))
    return context


def _attend_one(query: Tensor, key: Tensor, value: Tensor, into: Tensor) -> None:
    length, keys = query.shape[1], key.shape[1]
    if not keys:
        into.zero_()
        return
    # Rows of keys that lie far apart slow the product more than bringing them together costs.
    key, value = _filled_up(key.contiguous()).transpose(1, 2), _filled_up(value)
    block = length if length <= _WHOLE else _BLOCK
    for start in range(0, length, max(block, 1)):
        part = slice(start, start + block)
        scores = torch.bmm(_filled_up(query[:, part]), key)
        if scores.shape[2] > keys:
            scores[:, :, keys:] = -torch.inf
        target = into[:, part]
        target.copy_(torch.bmm(scores.softmax(-1), value)[:, : target.shape[1]])


def _filled_up(rows: Tensor) -> Tensor:
    """Return ``[heads, rows, width]`` with rows of zeros, up to a multiple, where oneDNN computes their products."""
    missing = -rows.shape[1] % _MULTIPLE if rows.dtype == torch.bfloat16 else 0
    return functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def _heads(rows: Tensor, heads: int) -> Tensor:
    return rows.view(len(rows), heads, rows.shape[1] // heads).transpose(0, 1)


def attention_dtype(linear: Int8Linear | PackedLinear, width: int) -> torch.dtype:
    """Return the dtype that a projection writes queries, keys and values in.

    It is float32 where the inputs of the projection have 16 bits, and where all heads together are no wider than
    ``_NARROW``: there bfloat16 saves no time, and its kernels take more memory than the model.
    """
    wide = isinstance(linear, PackedLinear) and linear.scheme.bits == 8
    return torch.bfloat16 if instructions.bfloat16() and not wide and width > _NARROW else torch.float32


def rounding(linear: Int8Linear | PackedLinear) -> Callable[[Tensor], onednn.QuantizedActivations]:
    """Return how the input of ``linear`` is quantized: by a calibrated range, or dynamically.

    Inputs of layers of which only the weight is quantized keep 16 bits beside 8-bit weights; beside 4 bits, whose
    rounding weighs more than that of inputs, they have 8.
    """
    if isinstance(linear, PackedLinear):
        return quantize if linear.scheme.bits < 8 else quantize_wide
    inputs = linear.input_range
    if inputs is None:
        return quantize
    scale, zero_point = inputs.scale, inputs.zero_point + 128
    return lambda x: onednn.quantize_by(x, scale, zero_point)


def quantize(x: Tensor) -> onednn.QuantizedActivations:
    """Quantize the rows of ``x`` dynamically.

    Raises:
        NonFiniteRowsError: A value is infinite or not a number.
    """
    return _finite(onednn.quantize(x))


def quantize_wide(x: Tensor) -> onednn.QuantizedActivations:
    """Quantize the rows of ``x`` dynamically to 16 bits.

    Raises:
        NonFiniteRowsError: A value is infinite or not a number.
    """
    return _finite(onednn.quantize_wide(x))


def _finite(quantized: onednn.QuantizedActivations | None) -> onednn.QuantizedActivations:
    if quantized is None:
        raise NonFiniteRowsError
    return quantized


def _cross_attention_fits(attention: Any) -> bool:
    linears = attention.linear_q, attention.linear_k_v, attention.linear_out
    return type(attention) is MultiHeadedAttentionCrossAtt and _are_quantized(*linears)


def _are_quantized(*linears: nn.Module) -> bool:
    return all(
        type(linear) is PackedLinear or (type(linear) is Int8Linear and linear.scheme.strategy == "tensor")
        for linear in linears
    )


def _packed(linear: Int8Linear | PackedLinear) -> onednn.PackedWeight:
    if isinstance(linear, PackedLinear):
        return onednn.pack(*linear.by_channel(), linear.bias)
    packed = linear.packed()
    if packed is None:
        raise RuntimeError("the int8 engine changed while a plan was made")
    return packed


def _scale_queries(packed: onednn.PackedWeight, width: int, head_width: int) -> onednn.PackedWeight:
    """Return the projection with its first ``width`` outputs, the queries, divided by the root of ``head_width``."""
    factor = torch.ones(len(packed.scale))
    factor[:width] = head_width**-0.5
    bias = None if packed.bias is None else packed.bias * factor
    return dataclasses.replace(packed, scale=packed.scale * factor, bias=bias)


def side_by_side(linears: Sequence[Int8Linear | PackedLinear]) -> onednn.PackedWeight:
    """Join layers that read the same input into one product; their own weights are not packed, as nothing uses them."""
    biases = [torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach() for linear in linears]
    weights, scales = zip(*map(_by_channel, linears), strict=True)
    return onednn.pack(torch.cat(weights), torch.cat(scales), torch.cat(biases))


def _by_channel(linear: Int8Linear | PackedLinear) -> tuple[Tensor, Tensor]:
    """Return the weight in int8, and its scales."""
    return linear.by_channel() if isinstance(linear, PackedLinear) else (linear.weight, linear.weight_scale)
