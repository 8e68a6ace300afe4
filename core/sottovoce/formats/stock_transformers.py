"""Limits of stock transformers for models with quantized layers (5.23 with compressed-tensors 0.20).

It dequantizes in one of two ways. Module by module in the model's first forward pass, which works for layers of any
kind, but not for experts, which it stacks when it loads them, and not for zero points. Or all at once while it loads:
that works for experts and zero points, by one scheme for all experts and one for all other layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sottovoce.recipe.scheme import Scheme

EXPERT = re.compile(r"\.experts\.\d+\.")
"""Part of the names of an expert's layers, and of no others."""


@dataclass(frozen=True)
class Stored:
    """One quantized layer: its name, its scheme, and the format that it is stored in."""

    name: str
    scheme: Scheme
    format: str

    @property
    def weights(self) -> tuple[Any, ...]:
        """Facts that dequantizing the weight depends on; the scheme of the inputs is not among them."""
        return (self.format, *sorted(self.scheme.weights().items()))

    @property
    def is_expert(self) -> bool:
        """If true, it is a layer of an expert."""
        return bool(EXPERT.search(self.name))


def is_loaded_at_once(layers: Sequence[Stored]) -> bool:
    """Return whether the weights must be dequantized while the model loads, and can."""
    return _must_load_at_once(layers) and not _unreadable(layers)


def limits(layers: Sequence[Stored], float_experts: Sequence[str] = ()) -> list[str]:
    """Return why transformers by itself cannot read a model, or what it leaves out; nothing where it reads all.

    Args:
        layers: All quantized layers.
        float_experts: Names of mixtures that stay float.
    """
    notes = _unreadable(layers, float_experts)
    if _must_load_at_once(layers) and any(layer.scheme.activations == "static" for layer in layers):
        notes.append(
            "ranges of inputs were calibrated: beside experts transformers by itself leaves them out, names them as "
            "unexpected tensors, and computes with float inputs"
        )
    return notes


def _unreadable(layers: Sequence[Stored], float_experts: Sequence[str] = ()) -> list[str]:
    if not _must_load_at_once(layers):
        return []
    experts, others = _kinds(layers)
    problems: list[tuple[object, str, str]] = [
        (
            experts and float_experts,
            f"{next(iter(float_experts), '')!r} stays float beside others",
            "it reads experts of one kind",
        ),
        (
            any(layer.is_expert and not _can_be_stacked(layer) for layer in layers),
            "experts have zero points or rounded inputs",
            "it reads experts without",
        ),
        (experts > 1, "experts have more than one width", "it reads experts of one kind"),
        (
            experts and others > 1,
            "layers beside the experts have more than one width",
            "it reads one kind beside experts",
        ),
        (
            not experts and others > 1,
            "zero points are stored beside other kinds of weights",
            "it reads them where all layers are of one kind",
        ),
    ]
    return [
        f"{problem}: Sottovoce loads the result, transformers by itself cannot ({reason})"
        for holds, problem, reason in problems
        if holds
    ]


def _can_be_stacked(layer: Stored) -> bool:
    return layer.scheme.symmetric and layer.format != "int-quantized"


def _must_load_at_once(layers: Iterable[Stored]) -> bool:
    return any(layer.is_expert or not layer.scheme.symmetric for layer in layers)


def _kinds(layers: Sequence[Stored]) -> tuple[int, int]:
    """Count the kinds of weights that experts have, and all other layers."""
    experts = {layer.weights for layer in layers if layer.is_expert}
    return len(experts), len({layer.weights for layer in layers if not layer.is_expert})
