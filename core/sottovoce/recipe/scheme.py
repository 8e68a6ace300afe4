"""The arithmetic of one quantized layer, in the terms of compressed-tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Activations = Literal["none", "dynamic", "static"]
Strategy = Literal["token", "tensor"]

WIDTHS = (2, 3, 4, 8)
"""Bits that a stored integer weight may have."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Storage of a layer's weights and quantization of its inputs."""

    bits: int = 8
    """Bits of a stored weight: 2, 3, 4 or 8."""
    type: Literal["int", "float"] = "int"
    """Type of a stored weight; ``float`` with 8 bits is fp8 (e4m3)."""
    group_size: int | None = None
    """Number of inputs that share a scale; ``None`` is one scale per output channel."""
    symmetric: bool = True
    """If true, zero is in the middle of the range and no zero point is stored."""
    activations: Activations = "none"
    """Quantization of the inputs: ``none``, or to int8 by a range computed at run time (``dynamic``) or in calibration
    (``static``)."""
    strategy: Strategy = "token"
    """Range of a dynamic input: per row (``token``) or per tensor."""

    @property
    def lowest(self) -> int:
        """Smallest stored integer."""
        return -(1 << (self.bits - 1)) + (1 if self.symmetric and self.bits == 8 else 0)

    @property
    def highest(self) -> int:
        """Largest stored integer."""
        return (1 << (self.bits - 1)) - 1

    @property
    def format(self) -> str:
        """Name of the storage format in compressed-tensors."""
        if self.type == "float":
            return "naive-quantized"
        return "pack-quantized" if self.activations == "none" else "int-quantized"

    def weights(self) -> dict[str, Any]:
        """Return the ``weights`` of a compressed-tensors group."""
        form: dict[str, Any] = {"num_bits": self.bits, "type": self.type, "symmetric": self.symmetric}
        if self.group_size is None:
            return form | {"strategy": "channel", "dynamic": False}
        return form | {"strategy": "group", "group_size": self.group_size, "dynamic": False}

    def input_activations(self) -> dict[str, Any] | None:
        """Return the ``input_activations`` of a compressed-tensors group; ``None`` for float inputs."""
        if self.activations == "none":
            return None
        symmetric, dynamic = self.strategy == "token", self.activations == "dynamic"
        return {
            "num_bits": 8,
            "type": "int",
            "symmetric": symmetric and dynamic,
            "strategy": self.strategy if dynamic else "tensor",
            "dynamic": dynamic,
        }

    @classmethod
    def read(cls, group: Mapping[str, Any]) -> Scheme:
        """Return the scheme of a group that :meth:`weights` and :meth:`input_activations` wrote.

        Raises:
            ValueError: No scheme of Sottovoce's writes such a group.
        """
        weights, inputs = group.get("weights"), group.get("input_activations")
        if not isinstance(weights, Mapping) or not isinstance(inputs, Mapping | None):
            raise ValueError("a group has no weights")
        activations: Activations = "none" if inputs is None else "dynamic" if inputs.get("dynamic") else "static"
        scheme = cls(
            bits=weights.get("num_bits", 8),
            type=weights.get("type", "int"),
            group_size=weights.get("group_size") if weights.get("strategy") == "group" else None,
            symmetric=weights.get("symmetric", True),
            activations=activations,
            strategy="tensor" if inputs and inputs.get("strategy") == "tensor" else "token",
        )
        form = scheme.weights()
        if form != {key: weights.get(key) for key in form} or not scheme._is_known():
            raise ValueError(f"quantized weights {dict(weights)} are not supported")
        form = scheme.input_activations() or {}
        if inputs is not None and (form != {key: inputs.get(key) for key in form} or not scheme._is_plain()):
            raise ValueError(f"quantized inputs {dict(inputs)} are not supported")
        return scheme

    def _is_plain(self) -> bool:
        return self.type == "int" and self.bits == 8 and self.group_size is None and self.symmetric

    def _is_known(self) -> bool:
        if self.type == "float":
            return replace(self, type="int")._is_plain()
        sized = self.group_size is None or (isinstance(self.group_size, int) and self.group_size > 0)
        return self.type == "int" and self.bits in WIDTHS and isinstance(self.symmetric, bool) and sized
