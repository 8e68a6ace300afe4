"""Activations of both stacks by tables, and in the text layers together with what lies around them.

A text layer's gate, after its product, is scaled, activated and multiplied: four passes of the library and of int8
layers, one here. Every rounding to bfloat16 is where it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.kernels.availability import takes
from sottovoce_forced_aligner.derived import derive

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "GELUActivation": functional.gelu,
    "SiLUActivation": functional.silu,
}
"""Functions that transformers' modules of these names compute."""
_GATED = {"gate_proj", "up_proj", "down_proj", "act_fn"}


def install_(layer: nn.Module) -> bool:
    """Have a transformers activation or gated feed-forward layer work by tables, in bfloat16 on the CPU.

    Returns:
        True if it is such a layer.
    """
    kind: Any = type(layer)
    if kind.__name__ in _FUNCTIONS:
        layer.__class__ = _by_table(kind)
    elif set(dict(layer.named_children())) == _GATED and type(layer.act_fn).__name__ in _FUNCTIONS:
        layer.__class__ = _gated(kind)
    else:
        return False
    return True


@functools.cache
def _by_table(kind: type[Any]) -> type[nn.Module]:
    """Return the class of activations like ``kind`` that work by tables."""
    function = _FUNCTIONS[kind.__name__]

    def forward(layer: Any, input: Tensor) -> Tensor:
        if not takes(input):
            result: Tensor = kind.forward(layer, input)
            return result
        from sottovoce.runtime.kernels.activation import activate

        return activate(input, function)

    return derive(kind, forward, _by_table)


@functools.cache
def _gated(kind: type[Any]) -> type[nn.Module]:
    """Return the class of gated feed-forward layers like ``kind`` that work by tables."""

    def forward(layer: Any, x: Tensor) -> Tensor:
        projections = layer.gate_proj, layer.up_proj
        # Who watches a layer must find its output as it was.
        if not takes(x) or any(
            projection._forward_hooks or projection._forward_pre_hooks for projection in projections
        ):
            result: Tensor = kind.forward(layer, x)
            return result
        from sottovoce.runtime.kernels.activation import activate_times_

        gate, up, scale = _products(*projections, x)
        function = _FUNCTIONS[type(layer.act_fn).__name__]
        down: Tensor = layer.down_proj(activate_times_(gate, up, function, scale))
        return down

    return derive(kind, forward, _gated)


def _products(gate: nn.Module, up: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return both layers' products with ``x``, and the scales of their rows where these are still to be applied."""
    if isinstance(gate, Int8Linear) and isinstance(up, Int8Linear):
        products = gate.unscaled(x), up.unscaled(x)
        if products[0] is not None and products[1] is not None:
            # Both have rounded the same rows, so their scales are the same.
            return products[0][0], products[1][0], products[0][1]
    return gate(x).contiguous(), up(x), None
