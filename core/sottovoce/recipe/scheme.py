"""How the weights of one layer are stored and how its inputs are rounded, in the terms of compressed-tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Activations = Literal["none", "dynamic", "static"]
Strategy = Literal["token", "tensor"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The arithmetic of one quantized layer."""

    bits: int = 8
    """Width of a stored weight."""
    type: Literal["int", "float"] = "int"
    """``float`` with 8 bits is fp8 (e4m3)."""
    group_size: int | None = None
    """Inputs that share a scale; ``None`` is one scale an output channel."""
    symmetric: bool = True
    """Whether zero lies in the middle of the range, so that no zero point is stored."""
    activations: Activations = "none"
    """``none``: inputs stay float. ``dynamic``: rounded by their own range. ``static``: by a calibrated one."""
    strategy: Strategy = "token"
    """Whether each row of a dynamic input has a range of its own, or the tensor has one."""

    @property
    def lowest(self) -> int:
        """The smallest stored integer."""
        return -(1 << (self.bits - 1)) + (1 if self.symmetric and self.bits == 8 else 0)

    @property
    def highest(self) -> int:
        """The largest stored integer."""
        return (1 << (self.bits - 1)) - 1

    @property
    def format(self) -> str:
        """The name that compressed-tensors has for weights stored so."""
        if self.type == "float":
            return "naive-quantized"
        return "pack-quantized" if self.activations == "none" else "int-quantized"

    def weights(self) -> dict[str, Any]:
        """The ``weights`` of a compressed-tensors group."""
        form: dict[str, Any] = {"num_bits": self.bits, "type": self.type, "symmetric": self.symmetric}
        if self.group_size is None:
            return form | {"strategy": "channel", "dynamic": False}
        return form | {"strategy": "group", "group_size": self.group_size, "dynamic": False}

    def input_activations(self) -> dict[str, Any] | None:
        """The ``input_activations`` of a compressed-tensors group."""
        if self.activations == "none":
            return None
        symmetric, dynamic = self.strategy == "token", self.activations == "dynamic"
        return {
            "num_bits": 8, "type": "int", "symmetric": symmetric and dynamic,
            "strategy": self.strategy if dynamic else "tensor", "dynamic": dynamic,
        }  # fmt: skip

    @classmethod
    def read(cls, group: Mapping[str, Any]) -> Scheme:
        """The scheme of a group that :meth:`weights` and :meth:`input_activations` wrote.

        Raises:
            ValueError: The group is of a kind that is not ours.
        """
        weights, inputs = group.get("weights"), group.get("input_activations")
        if not isinstance(weights, Mapping) or not isinstance(inputs, Mapping | None):
            raise ValueError("a group has no weights")
        activations: Activations = "none" if inputs is None else "dynamic" if inputs.get("dynamic") else "static"
        made = cls(
            bits=weights.get("num_bits", 8),
            type=weights.get("type", "int"),
            group_size=weights.get("group_size") if weights.get("strategy") == "group" else None,
            symmetric=weights.get("symmetric", True),
            activations=activations,
            strategy="tensor" if inputs and inputs.get("strategy") == "tensor" else "token",
        )
        if made.weights() != {key: weights.get(key) for key in made.weights()} or not made._is_known():
            raise ValueError(f"weights of the kind {dict(weights)} are not read here")
        wanted = made.input_activations()
        if inputs is not None and (wanted != {key: inputs.get(key) for key in wanted or ()} or not made._is_plain()):
            raise ValueError(f"inputs of the kind {dict(inputs)} are not read here")
        return made

    def _is_plain(self) -> bool:
        return self.type == "int" and self.bits == 8 and self.group_size is None and self.symmetric

    def _is_known(self) -> bool:
        if self.type == "float":
            return replace(self, type="int")._is_plain()
        sized = self.group_size is None or (isinstance(self.group_size, int) and self.group_size > 0)
        return self.type == "int" and self.bits in (4, 8) and isinstance(self.symmetric, bool) and sized
