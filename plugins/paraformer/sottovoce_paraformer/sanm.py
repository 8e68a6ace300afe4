"""SAN-M layers rewritten for inference in int8 on the CPU; FunASR's modules and their tensors stay as they are.

What is done differently from FunASR's own forward:

* The valid rows of a padded batch are laid end to end. No layer computes on padding, and no mask is needed.
* One quantization serves every product that reads the same tensor; ReLU and the residual are added by the products.
* The factor of the scores is folded into the scale of the queries.
* Attention runs in bfloat16 where the CPU has instructions for it.
* The FSMN memory is a channels-last convolution, with its identity folded into the kernel.
* One product gives the keys and values of all decoder layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from funasr.models.paraformer.decoder import DecoderLayerSANM
from funasr.models.sanm.attention import (
    MultiHeadedAttentionCrossAtt,
    MultiHeadedAttentionSANM,
    MultiHeadedAttentionSANMDecoder,
)
from funasr.models.sanm.encoder import EncoderLayerSANM
from funasr.models.sanm.positionwise_feed_forward import PositionwiseFeedForwardDecoderSANM
from funasr.models.transformer.positionwise_feed_forward import PositionwiseFeedForward
from funasr.models.transformer.utils.repeat import MultiSequential
from sottovoce.formats import onednn
from sottovoce.formats.int8_linear import Int8Linear, engine
from torch import Tensor, nn
from torch.nn import functional


def rewire(module: nn.Module) -> tuple[str, ...]:
    """Make the stacks of SAN-M layers in ``module`` fast, in place, where their linear layers are int8.

    The stacks become instances of a subclass; names, tensors and state dicts stay. A stack runs as FunASR wrote it while
    training, on other devices, in streaming, and where masks are no mere lengths; a layer does so when its linear layers
    are not int8 or when it is configured in another way than published models are. Calling it again changes nothing.

    Args:
        module: A Paraformer of any kind, or a part of one.

    Returns:
        One line for each stack that was changed.
    """
    if engine() != "onednn":
        return ()
    changed = []
    for name, child in module.named_modules():
        kind = _kind(child)
        fast = sum(map(kind.step.fits, child)) if kind else 0
        if kind and fast:
            child.__class__ = kind
            child.plan()
            changed.append(f"{name}: {fast} of {len(child)} layers run in int8 by oneDNN")
    return tuple(changed)


def _kind(module: nn.Module) -> type[Stack] | None:
    if type(module) is not MultiSequential:
        return None
    classes = {type(layer) for layer in module}
    return EncoderStack if classes == {EncoderLayerSANM} else DecoderStack if classes == {DecoderLayerSANM} else None


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the rows of a padded batch ``[batch, size, ...]`` lie when only the valid ones are laid end to end."""

    lengths: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, mask: Tensor | None, x: Tensor) -> Layout | None:
        """Read a mask ``[batch, 1, size]`` or ``[batch, size, 1]``; ``None`` when it does not state lengths of ``x``."""
        batch, size = x.shape[:2]
        if mask is None or mask.shape not in ((batch, 1, size), (batch, size, 1)):
            return None
        valid = mask.reshape(batch, size).ne(0)
        lengths = valid.sum(1)
        if not torch.equal(valid, torch.arange(size) < lengths[:, None]) or not bool(lengths.any()):
            return None
        return cls(tuple(lengths.tolist()), size)

    def rows(self, x: Tensor) -> Tensor:
        """``[batch, size, width]`` to ``[valid rows, width]``."""
        if min(self.lengths) == self.size:
            return x.reshape(-1, x.shape[-1])
        return torch.cat([one[:length] for one, length in zip(x, self.lengths, strict=True)])

    def padded(self, rows: Tensor) -> Tensor:
        """The way back; padding is zero."""
        if min(self.lengths) == self.size:
            return rows.view(len(self.lengths), self.size, -1)
        x = rows.new_zeros(len(self.lengths), self.size, rows.shape[-1])
        for one, length, valid in zip(x, self.lengths, rows.split(self.lengths), strict=True):
            one[:length] = valid
        return x


class Memory:
    """FSMN: each channel plus a convolution over its own neighbours in time."""

    def __init__(self, attention: nn.Module) -> None:
        """Read the kernel of FunASR's ``fsmn_block`` and its padding."""
        weight = attention.fsmn_block.weight.detach().float()
        left, right = attention.pad_fn.padding
        kernel = weight.clone()
        kernel[:, 0, left] += 1
        self.kernel = kernel[..., None].contiguous(memory_format=torch.channels_last)
        self.pad = max(left, right)
        self.start = self.pad - left

    def __call__(self, x: Tensor, layout: Layout) -> Tensor:
        """``[rows, width]`` of any float dtype to new float32 ``[rows, width]``."""
        parts = [self._one(part) for part in x.split(layout.lengths) if len(part)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _one(self, x: Tensor) -> Tensor:
        length, width = x.shape
        image = x.float().contiguous().view(1, length, 1, width).permute(0, 3, 1, 2)
        image = functional.conv2d(image, self.kernel, padding=(self.pad, 0), groups=width)
        return image.permute(0, 2, 3, 1).reshape(-1, width)[self.start : self.start + length]


class EncoderStep:
    """What :class:`EncoderLayerSANM` computes."""

    def __init__(self, layer: Any) -> None:
        """Pack the weights of ``layer``, which :meth:`fits`."""
        self.layer, attention = layer, layer.self_attn
        self.heads, self.width = attention.h, attention.h * attention.d_k
        self.project = _scale_queries(_packed(attention.linear_q_k_v), self.width, attention.d_k)
        self.out = _packed(attention.linear_out)
        self.memory = Memory(attention)
        self.expand, self.contract = _packed(layer.feed_forward.w_1), _packed(layer.feed_forward.w_2)

    @staticmethod
    def fits(layer: Any) -> bool:
        """Whether ``layer`` is configured as published models are, and its linear layers are int8."""
        attention, feed_forward = layer.self_attn, layer.feed_forward
        return (
            layer.normalize_before
            and not layer.concat_after
            and type(attention) is MultiHeadedAttentionSANM
            and type(feed_forward) is PositionwiseFeedForward
            and isinstance(feed_forward.activation, nn.ReLU)
            and _are_int8(attention.linear_q_k_v, attention.linear_out, feed_forward.w_1, feed_forward.w_2)
        )

    def __call__(self, x: Tensor, layout: Layout) -> Tensor:
        """Float32 ``[rows, in]`` to new float32 ``[rows, width]``."""
        projected = onednn.linear(_quantize(self.layer.norm1(x)), self.project, dtype=_attention_dtype())
        query, key, value = projected.split(self.width, dim=1)
        total = self.memory(value, layout)
        if self.layer.in_size == self.layer.size:
            total += x
        context = attend(query, key, value, self.heads, layout, layout)
        onednn.linear_add_(total, _quantize(context), self.out)
        hidden = onednn.linear(_quantize(self.layer.norm2(total)), self.expand, relu=True)
        return onednn.linear_add_(total, _quantize(hidden), self.contract)


class DecoderStep:
    """What :class:`DecoderLayerSANM` computes."""

    def __init__(self, layer: Any) -> None:
        """Pack the weights of ``layer``, which :meth:`fits`; keys and values are :class:`DecoderStack`'s."""
        self.layer, attention = layer, layer.src_attn
        self.expand, self.contract = _packed(layer.feed_forward.w_1), _packed(layer.feed_forward.w_2)
        self.memory = None if layer.self_attn is None else Memory(layer.self_attn)
        if attention is not None:
            self.heads, width = attention.h, attention.h * attention.d_k
            self.query = _scale_queries(_packed(attention.linear_q), width, attention.d_k)
            self.out = _packed(attention.linear_out)

    @staticmethod
    def fits(layer: Any) -> bool:
        """Whether ``layer`` is configured as published models are, and its linear layers are int8."""
        memory, attention, feed_forward = layer.self_attn, layer.src_attn, layer.feed_forward
        return (
            layer.normalize_before
            and not layer.concat_after
            and not layer.reserve_attn
            and type(feed_forward) is PositionwiseFeedForwardDecoderSANM
            and isinstance(feed_forward.activation, nn.ReLU)
            and _are_int8(feed_forward.w_1, feed_forward.w_2)
            and (memory is None or type(memory) is MultiHeadedAttentionSANMDecoder)
            and (attention is None or _cross_attention_fits(attention))
        )

    def __call__(self, x: Tensor, layout: Layout, memory: Tensor | None, memory_layout: Layout | None) -> Tensor:
        """Float32 ``[rows, width]`` to new float32 ``[rows, width]``.

        Args:
            x: One row a token.
            layout: Of ``x``.
            memory: Keys and values of this layer, side by side, one row a frame.
            memory_layout: Of ``memory``.
        """
        layer = self.layer
        hidden = onednn.linear(_quantize(layer.norm1(x)), self.expand, relu=True)
        total = onednn.linear(_quantize(layer.feed_forward.norm(hidden)), self.contract)
        if self.memory is not None:
            total = self.memory(layer.norm2(total), layout).add_(x)
        if memory is None or memory_layout is None:
            return total
        query = onednn.linear(_quantize(layer.norm3(total)), self.query, dtype=_attention_dtype())
        key, value = memory.chunk(2, dim=1)
        context = attend(query, key, value, self.heads, layout, memory_layout)
        return onednn.linear_add_(total, _quantize(context), self.out)


class Stack(MultiSequential):
    """Layers in a row, run over valid rows; FunASR's own forward serves what :meth:`_rows` refuses."""

    step: type[EncoderStep] | type[DecoderStep]
    _plan: Plan | None = None

    def forward(self, *args: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the layers.

        Args:
            args: What FunASR gives to its layers, batch first; absent masks and caches are ``None``.

        Returns:
            What the last layer of FunASR returns.
        """
        x = args[0]
        unusual = self.training or x is None or x.device.type != "cpu" or x.dtype != torch.float32
        if unusual or (torch.is_grad_enabled() and x.requires_grad) or torch.is_autocast_enabled("cpu"):
            return self._own(*args)
        try:
            with torch.no_grad():
                return self._rows(self.plan(), *args) or self._own(*args)
        except _NotFiniteError:
            return self._own(*args)

    def plan(self) -> Plan:
        """The packed form of the layers; made when there is none or weights were loaded since."""
        if self._plan is None or not self._plan.current():
            with torch.no_grad():
                self._plan = Plan(self, self.step)
        return self._plan

    def train(self, mode: bool = True) -> Stack:
        """Training may change what the plan was made from."""
        self._plan = None if mode else self._plan
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own plan."""
        return {name: value for name, value in self.__dict__.items() if name != "_plan"}

    def _own(self, *args: Tensor | None) -> tuple[Tensor | None, ...]:
        result: tuple[Tensor | None, ...] = super().forward(*args)
        return result

    def _rows(self, plan: Plan, *args: Any) -> tuple[Tensor | None, ...] | None:
        raise NotImplementedError


class EncoderStack(Stack):
    """``SANMEncoder.encoders0`` and ``.encoders``."""

    step = EncoderStep

    def _rows(self, plan: Plan, x: Tensor, mask: Tensor, *others: Any) -> tuple[Tensor | None, ...] | None:
        layout = None if any(other is not None for other in others) else Layout.of(mask, x)
        if layout is None:
            return None
        rows = layout.rows(x)
        for step in plan.steps:
            if isinstance(step, EncoderStep):
                rows = step(rows, layout)
            else:
                rows = layout.rows(step(layout.padded(rows), mask)[0])
        return layout.padded(rows), mask, None, None, None


class DecoderStack(Stack):
    """``ParaformerSANMDecoder.decoders``, ``.decoders2`` and ``.decoders3``."""

    step = DecoderStep

    def _rows(self, plan: Plan, *args: Any) -> tuple[Tensor | None, ...] | None:
        x, mask, memory, memory_mask = args[:4]
        layout, memory_layout = Layout.of(mask, x), Layout.of(memory_mask, memory)
        unusual = any(other is not None for other in args[4:]) or any(layer.reserve_attn for layer in self)
        if layout is None or memory_layout is None or unusual:
            return None
        rows, memories = layout.rows(x), plan.memories(memory_layout.rows(memory))
        for step in plan.steps:
            if isinstance(step, DecoderStep):
                attends = step.layer.src_attn is not None
                rows = step(rows, layout, next(memories) if attends else None, memory_layout if attends else None)
            else:
                rows = layout.rows(step(layout.padded(rows), mask, memory, memory_mask)[0])
        return layout.padded(rows), mask, memory, memory_mask, None


class Plan:
    """The layers of a stack as steps, with what was packed for them."""

    def __init__(self, layers: nn.Module, step: type[EncoderStep] | type[DecoderStep]) -> None:
        """Pack the layers that can be; the others stay themselves."""
        usable = engine() == "onednn"
        self.steps = [step(layer) if usable and step.fits(layer) else layer for layer in layers.children()]
        attentions = [one.layer.src_attn for one in self.steps if isinstance(one, DecoderStep)]
        self._sources = [attention.linear_k_v for attention in attentions if attention is not None]
        self._memory = _side_by_side(self._sources) if self._sources else None
        self._linears = [linear for linear in layers.modules() if isinstance(linear, Int8Linear)]
        self._generation = self._count()

    def current(self) -> bool:
        """Whether the int8 weights are those that the plan was made from."""
        return self._generation == self._count()

    def memories(self, rows: Tensor) -> Iterator[Tensor]:
        """Keys and values of every decoder step that attends, from the encoder's float32 ``[frames, width]``."""
        if self._memory is None:
            return iter(())
        product = onednn.linear(_quantize(rows), self._memory, dtype=_attention_dtype())
        return iter(product.split([linear.out_features for linear in self._sources], dim=1))

    def _count(self) -> int:
        return sum(linear.generation for linear in self._linears)


class _NotFiniteError(ArithmeticError):
    """An activation is infinite or not a number; int8 cannot say that, FunASR's forward can."""


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, layout: Layout, memory_layout: Layout) -> Tensor:
    """Attention of each utterance to itself or to its own frames; queries come scaled.

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
    context = torch.zeros(query.shape)
    queries, contexts = query.split(layout.lengths), context.split(layout.lengths)
    keys, values = key.split(memory_layout.lengths), value.split(memory_layout.lengths)
    for one in zip(queries, keys, values, contexts, strict=True):
        q, k, v, c = (rows.unflatten(1, (heads, -1)).transpose(0, 1) for rows in one)
        if q.numel() and k.numel():
            c.copy_(torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v))
    return context


def _attention_dtype() -> torch.dtype:
    return torch.bfloat16 if onednn.bfloat16() else torch.float32


def _quantize(x: Tensor) -> onednn.Activations:
    quantized = onednn.quantize(x)
    if quantized is None:
        raise _NotFiniteError
    return quantized


def _cross_attention_fits(attention: Any) -> bool:
    linears = attention.linear_q, attention.linear_k_v, attention.linear_out
    return type(attention) is MultiHeadedAttentionCrossAtt and _are_int8(*linears)


def _are_int8(*linears: nn.Module) -> bool:
    return all(type(linear) is Int8Linear for linear in linears)


def _packed(linear: Int8Linear) -> onednn.PackedWeight:
    packed = linear.packed()
    if packed is None:
        raise RuntimeError("the int8 engine changed while a plan was made")
    return packed


def _scale_queries(packed: onednn.PackedWeight, width: int, head_width: int) -> onednn.PackedWeight:
    """The projection whose first ``width`` outputs, the queries, are divided by the root of ``head_width``."""
    factor = torch.ones(len(packed.scale))
    factor[:width] = head_width**-0.5
    bias = None if packed.bias is None else packed.bias * factor
    return dataclasses.replace(packed, scale=packed.scale * factor, bias=bias)


def _side_by_side(linears: Sequence[Int8Linear]) -> onednn.PackedWeight:
    """One product for layers that read the same input. Their own weights are not packed: nothing else multiplies them."""
    biases = [torch.zeros(one.out_features) if one.bias is None else one.bias.detach() for one in linears]
    weight, scale = torch.cat([one.weight for one in linears]), torch.cat([one.weight_scale for one in linears])
    return onednn.pack(weight, scale, torch.cat(biases))
