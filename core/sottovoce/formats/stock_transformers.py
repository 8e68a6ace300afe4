"""What transformers by itself can read of a model with quantized layers, by version 5.23 with compressed-tensors 0.20.

It has two ways to make the weights float again. Module by module on the model's first own forward pass, which serves
layers of any kind, but not experts, which it stacks when it loads them, and not zero points. Or all at once while it
loads: that serves experts and zero points, by one scheme for all experts and one for all else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sottovoce.recipe.scheme import Scheme

EXPERT = re.compile(r"\.experts\.\d+\.")
"""In the names of an expert's layers, and of no other."""


@dataclass(frozen=True)
class Stored:
    """One quantized layer: its name, its scheme, and the format that it is stored in."""

    name: str
    scheme: Scheme
    format: str

    @property
    def weights(self) -> tuple[Any, ...]:
        """All that making the weight float again depends on; how inputs are rounded does not matter to it."""
        return (self.format, *sorted(self.scheme.weights().items()))

    @property
    def is_expert(self) -> bool:
        """Whether it is a layer of an expert."""
        return bool(EXPERT.search(self.name))


def is_loaded_at_once(layers: Sequence[Stored]) -> bool:
    """Return whether the weights must become float while the model loads, and can."""
    return _must_load_at_once(layers) and not _unreadable(layers)


def limits(layers: Sequence[Stored], float_experts: Sequence[str] = ()) -> list[str]:
    """Return why transformers by itself cannot read a model, or what it leaves out; nothing where it reads all.

    Args:
        layers: All quantized layers.
        float_experts: Names of mixtures that stay float.
    """
    told = _unreadable(layers, float_experts)
    if _must_load_at_once(layers) and any(layer.scheme.activations == "static" for layer in layers):
        told.append(
            "ranges of inputs were calibrated: beside experts transformers by itself leaves them out, names them as "
            "unexpected tensors, and computes with float inputs"
        )
    return told


def _unreadable(layers: Sequence[Stored], float_experts: Sequence[str] = ()) -> list[str]:
    if not _must_load_at_once(layers):
        return []
    experts, others = _kinds(layers)
    problems = {
        f"{next(iter(float_experts), '')!r} stays float beside others (it reads experts of one kind)":
            experts and float_experts,
        "experts have zero points or rounded inputs (it reads experts without)":
            any(layer.is_expert and not _can_be_stacked(layer) for layer in layers),
        "experts have more than one width (it reads experts of one kind)": experts > 1,
        "layers beside the experts have more than one width (it reads one kind beside experts)": experts and others > 1,
        "zero points are stored beside other kinds of weights (it reads them where all layers are of one kind)":
            not experts and others > 1,
    }  # fmt: skip
    parts = [problem.partition(" (") for problem, there in problems.items() if there]
    return [f"{what}: Sottovoce loads the result, transformers by itself cannot ({why}" for what, _, why in parts]


def _can_be_stacked(layer: Stored) -> bool:
    return layer.scheme.symmetric and layer.format != "int-quantized"


def _must_load_at_once(layers: Iterable[Stored]) -> bool:
    return any(layer.is_expert or not layer.scheme.symmetric for layer in layers)


def _kinds(layers: Sequence[Stored]) -> tuple[int, int]:
    """How many kinds of weights experts have, and all else."""
    experts = {layer.weights for layer in layers if layer.is_expert}
    return len(experts), len({layer.weights for layer in layers if not layer.is_expert})
