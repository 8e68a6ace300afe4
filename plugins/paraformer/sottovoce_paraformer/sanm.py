"""FunASR's stacks of SAN-M layers, fused for int8 products on the CPU; modules and tensors stay as they are.

The fused layers are in :mod:`sottovoce_paraformer.sanm_layers`; this module decides which layers they replace, and
when. A decoder stack also computes the keys and values of all its layers in a single product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from funasr.models.transformer.utils.repeat import MultiSequential
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.report.number_format import counted
from sottovoce.runtime.backends import onednn, onednn_float
from sottovoce.runtime.backends.int8_engine import engine
from sottovoce.runtime.core_share import CORES
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.packed_linear import PackedLinear
from sottovoce_paraformer.sanm_layers import (
    FusedDecoderLayer,
    FusedEncoderLayer,
    Layout,
    NonFiniteRowsError,
    attention_dtype,
    quantize,
    rounding,
    side_by_side,
)

_ENCODER_LAYER = "funasr.models.sanm.encoder.EncoderLayerSANM"
# Two copies of the same code; which one FunASR's tables give depends on the order of its imports.
_DECODER_LAYERS = {f"funasr.models.{module}.decoder.DecoderLayerSANM" for module in ("paraformer", "e_paraformer")}

_SMALL, _ROWS = 1 << 18, 16
"""Numbers below which the weight of an output layer is small, and the multiple that its rows are filled up to."""


def optimize_for_inference(module: nn.Module) -> tuple[str, ...]:
    """Make the stacks of SAN-M layers in ``module`` fast, in place, where their linear layers are quantized.

    The stacks, and the output layers behind them, become instances of a subclass; names, tensors and state dicts stay.
    A stack runs as FunASR wrote it while training, on other devices, in streaming, and where masks are no mere lengths;
    a layer does so when its linear layers are not quantized or when it is configured in another way than published
    models are. Calling it again changes nothing.

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
        layers = list(child.children())
        fast = sum(map(kind.fused.fits, layers)) if kind else 0
        if kind and fast and type(child) is not kind:
            child.__class__ = kind
            changed.append(f"{name}: {fast} of {counted(len(layers), 'layer')} in int8 by oneDNN")
            if all(tensor.device.type == "cpu" for tensor in child.parameters()):
                cast(Stack, child).plan()
    if changed and onednn_float.float_supported():
        changed += _fuse_output_layers(module)
    return tuple(changed)


def int8_copies(module: nn.Module) -> Iterator[PackedLinear]:
    """Yield the layers whose packed weights the stacks of ``module`` hold in int8 as well, now or once they are fast.

    Args:
        module: As for :func:`optimize_for_inference`; its tensors need no data.
    """
    if engine() != "onednn":
        return
    for child in module.modules():
        kind = _kind(child)
        if kind and _read_one_memory(child):
            for layer in filter(kind.fused.fits, child.children()):
                yield from (linear for linear in layer.modules() if isinstance(linear, PackedLinear))


def _fuse_output_layers(module: nn.Module) -> Iterator[str]:
    for name, child in module.named_modules():
        if type(child) is nn.Linear and name.endswith("output_layer"):
            child.__class__ = OutputLayer
            yield f"{name}: runs in float by oneDNN"


def _kind(module: nn.Module) -> type[Stack] | None:
    if isinstance(module, EncoderStack | DecoderStack):
        return type(module)
    if type(module) is not MultiSequential:
        return None
    classes = {f"{type(layer).__module__}.{type(layer).__name__}" for layer in module.children()}
    return EncoderStack if classes == {_ENCODER_LAYER} else DecoderStack if classes <= _DECODER_LAYERS else None


class Stack(MultiSequential):  # type: ignore[misc]  # FunASR is not typed
    """Layers in a row, run over valid rows; FunASR's own forward serves what :meth:`_rows` refuses."""

    fused: type[FusedEncoderLayer] | type[FusedDecoderLayer]
    _plan: Plan | None = None

    def forward(self, *args: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the layers.

        Args:
            args: The arguments of FunASR's layers, batch first; absent masks and caches are ``None``.

        Returns:
            The output of FunASR's last layer.
        """
        if self.training or args[0] is None or not _is_plain(args[0]):
            return self._own(*args)
        try:
            with torch.no_grad(), CORES.work() as look:
                return self._rows(self.plan(), look, *args) or self._own(*args)
        except NonFiniteRowsError:
            return self._own(*args)

    def plan(self) -> Plan:
        """Return the packed form of the layers; build it when there is none, or layers or weights are others since."""
        if self._plan is None or not self._plan.current():
            with torch.no_grad():
                self._plan = Plan(self, self.fused)
        return self._plan

    def train(self, mode: bool = True) -> Stack:
        """Drop the plan: training may change what it was made from."""
        self._plan = None if mode else self._plan
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave the plan out: a copy makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_plan"}

    def _own(self, *args: Tensor | None) -> tuple[Tensor | None, ...]:
        result: tuple[Tensor | None, ...] = super().forward(*args)
        return result

    def _rows(self, plan: Plan, look: Callable[[], None], *args: Any) -> tuple[Tensor | None, ...] | None:
        raise NotImplementedError


class OutputLayer(nn.Linear):
    """The scores of all characters, which stay in float."""

    def forward(self, input: Tensor) -> Tensor:
        """Multiply ``[..., width]`` to ``[..., vocabulary]``."""
        if not input.numel() or not _is_plain(input) or self.weight.dtype != torch.float32:
            return super().forward(input)
        rows = input.reshape(-1, input.shape[-1])
        # A small product costs less than the kernel that oneDNN keeps for each number of rows.
        missing = -len(rows) % _ROWS if self.weight.numel() < _SMALL else 0
        with torch.no_grad():
            scores = onednn_float.float_linear(functional.pad(rows, (0, 0, 0, missing)), self.weight, self.bias)
        return scores[: len(rows)].view(*input.shape[:-1], -1)


class EncoderStack(Stack):
    """``SANMEncoder.encoders0`` and ``.encoders``."""

    fused = FusedEncoderLayer

    def _rows(
        self, plan: Plan, look: Callable[[], None], x: Tensor, mask: Tensor, *others: Any
    ) -> tuple[Tensor | None, ...] | None:
        layout = None if any(other is not None for other in others) else Layout.of(mask, x)
        if layout is None:
            return None
        rows = layout.rows(x)
        for layer in plan.layers:
            look()
            if isinstance(layer, FusedEncoderLayer):
                rows = layer(rows, layout)
            else:
                rows = layout.rows(layer(layout.padded(rows), mask)[0])
        return layout.padded(rows), mask, None, None, None


class DecoderStack(Stack):
    """``ParaformerSANMDecoder.decoders``, ``.decoders2`` and ``.decoders3``."""

    fused = FusedDecoderLayer

    def _rows(self, plan: Plan, look: Callable[[], None], *args: Any) -> tuple[Tensor | None, ...] | None:
        x, mask, memory, memory_mask = args[:4]
        layout, memory_layout = Layout.of(mask, x), Layout.of(memory_mask, memory)
        unusual = any(other is not None for other in args[4:]) or any(layer.reserve_attn for layer in self)
        if layout is None or memory_layout is None or unusual:
            return None
        rows, memories = layout.rows(x), plan.memories(memory_layout.rows(memory))
        for layer in plan.layers:
            look()
            if isinstance(layer, FusedDecoderLayer):
                attends = layer.layer.src_attn is not None
                rows = layer(rows, layout, next(memories) if attends else None, memory_layout if attends else None)
            else:
                rows = layout.rows(layer(layout.padded(rows), mask, memory, memory_mask)[0])
        return layout.padded(rows), mask, memory, memory_mask, None


class Plan:
    """The layers of a stack, fused where they can be, with what was packed for them."""

    def __init__(self, layers: nn.Module, fused: type[FusedEncoderLayer] | type[FusedDecoderLayer]) -> None:
        """Fuse the layers that can be; the others stay themselves."""
        usable = engine() == "onednn" and _read_one_memory(layers)
        self.layers: list[Any] = [
            fused(layer) if usable and fused.fits(layer) else layer for layer in layers.children()
        ]
        attentions = [layer.layer.src_attn for layer in self.layers if isinstance(layer, FusedDecoderLayer)]
        self._sources = [attention.linear_k_v for attention in attentions if attention is not None]
        self._memory = side_by_side(self._sources) if self._sources else None
        self._round_memory = rounding(self._sources[0]) if self._sources else quantize
        self._places = list(_places(layers))
        self._linears = [module for *_, module in self._places if isinstance(module, Int8Linear | PackedLinear)]
        self._generation = self._count()

    def current(self) -> bool:
        """Return whether the layers, and their quantized weights, are those that the plan was made from."""
        return all(owner.get(name) is module for owner, name, module in self._places) and (
            self._generation == self._count()
        )

    def memories(self, rows: Tensor) -> Iterator[Tensor]:
        """Return keys and values of every attending decoder layer, from the encoder's float32 ``[frames, width]``."""
        if self._memory is None:
            return iter(())
        source = self._sources[0]  # of keys and values side by side
        dtype = attention_dtype(source, source.out_features // 2)
        product = onednn.linear(self._round_memory(rows), self._memory, dtype=dtype)
        return iter(torch.split_with_sizes(product, [linear.out_features for linear in self._sources], dim=1))

    def _count(self) -> int:
        return sum(linear.generation for linear in self._linears)


def _places(layers: nn.Module) -> Iterator[tuple[dict[str, nn.Module | None], str, nn.Module]]:
    """Yield what a plan is made from: the layers of a stack and their quantized parts, with where each is."""
    for owner in layers.modules():
        for name, module in owner._modules.items():
            if module is not None and (owner is layers or isinstance(module, Int8Linear | PackedLinear)):
                yield owner._modules, name, module


def _read_one_memory(layers: nn.Module) -> bool:
    """Return whether the attending layers of a stack can read the encoder's output in one product.

    They all read one tensor; ranges that someone calibrated apart keep them apart.
    """
    attending: list[Any] = [layer for layer in layers.children() if getattr(layer, "src_attn", None) is not None]
    readers = [layer.src_attn.linear_k_v for layer in attending]
    return len({_inputs(reader) for reader in readers if isinstance(reader, Int8Linear | PackedLinear)}) <= 1


def _inputs(linear: Int8Linear | PackedLinear) -> tuple[object, ...]:
    """Return what says how the inputs of a layer are quantized."""
    return (linear.input_range,) if isinstance(linear, Int8Linear) else ("weight only", linear.scheme.bits)


def _is_plain(x: Tensor) -> bool:
    """Return whether the fast layers take ``x``: float32 on the CPU, without a gradient to follow."""
    recorded = torch.is_grad_enabled() and x.requires_grad
    return x.device.type == "cpu" and x.dtype == torch.float32 and not recorded and not torch.is_autocast_enabled("cpu")
