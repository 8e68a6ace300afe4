"""Units of a search: the layers that get one choice together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.calibration.targets import Selection, select_layers
from sottovoce.recipe.pattern import matches
from sottovoce.recipe_search.choices import CHOICES, Choice
from sottovoce.runtime.experts import experts_in

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.architecture import Architecture
    from sottovoce.model import Model

_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Projections that vLLM computes as one."""


@dataclass(frozen=True)
class Layer:
    """Sizes of a layer that may be quantized."""

    name: str
    outputs: int
    """Rows of the weight."""
    inputs: int
    """Columns of the weight."""
    is_table: bool
    has_bias: bool
    is_weight_only: bool

    @property
    def width(self) -> int | None:
        """Number of inputs of a linear layer; ``None`` for a table."""
        return None if self.is_table else self.inputs


@dataclass(frozen=True)
class Unit:
    """Layers that get one choice together, because the clients that read the result need them alike."""

    name: str
    layers: tuple[str, ...]
    is_mixture: bool = False
    """If true, the layers are those of all experts of one mixture."""
    allowed: tuple[Choice, ...] = CHOICES
    """Choices that the search may take."""

    def choices(self, layers: Mapping[str, Layer]) -> tuple[Choice, ...]:
        """Return the choices that all layers allow, from the one that changes them least."""
        sizes = [layers[name] for name in self.layers if name in layers]
        return tuple(
            choice for choice in self.allowed if all(choice.fits(layer.width, layer.is_weight_only) for layer in sizes)
        )


def selected(model: Model, embeddings: str | None) -> Selection:
    """Return the layers that a recipe may quantize."""
    return select_layers(model.module, model.architecture, embeddings=embeddings)


def layers_of(selection: Selection, architecture: Architecture) -> dict[str, Layer]:
    """Return the sizes of the selected layers."""
    return {name: _layer(name, layer, architecture) for name, layer in selection.layers.items()}


def _layer(name: str, layer: nn.Linear | nn.Embedding, architecture: Architecture) -> Layer:
    rows, columns = layer.weight.shape
    patterns = architecture.layers.weight_only
    return Layer(
        name=name,
        outputs=rows,
        inputs=columns,
        is_table=not hasattr(layer, "in_features"),
        has_bias=getattr(layer, "bias", None) is not None,
        is_weight_only=any(matches(name, type(layer).__name__, pattern) for pattern in patterns),
    )


def units_of(model: Model, layers: Mapping[str, Layer], allowed: tuple[Choice, ...] = CHOICES) -> list[Unit]:
    """Return the units of a model in its order: experts of a mixture are alike, and what vLLM fuses where it reads.

    Args:
        model: The model.
        layers: Sizes of its layers.
        allowed: Choices that the search may take.
    """
    groups: dict[str, list[str]] = {}
    mixtures = {name for name, _ in experts_in(model.module)}
    for name in layers:
        mixture = next((mixture for mixture in mixtures if name.startswith(f"{mixture}.")), None)
        groups.setdefault(mixture or _fused(name, model.architecture) or name, []).append(name)
    return [Unit(name, tuple(members), name in mixtures, allowed) for name, members in groups.items()]


def _fused(name: str, architecture: Architecture) -> str | None:
    parent, _, child = name.rpartition(".")
    if not any(parent.startswith(prefix) for prefix in architecture.layers.vllm_names):
        return None
    return next((f"{parent}.{'+'.join(names)}" for names in _FUSED if child in names), None)
