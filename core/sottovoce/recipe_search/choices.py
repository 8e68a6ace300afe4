"""Choices for a layer: what each stores, and the setting of a recipe that asks for it.

A choice is declared here once; sensitivity, solver, tables and pictures read this list.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sottovoce.quantization.step import Override
from sottovoce.recipe.scheme import Activations, Scheme, Strategy

_WEIGHT_ONLY_GROUPS = (64, 32)


@dataclass(frozen=True)
class Choice:
    """A way to store the weight of a layer."""

    name: str
    """Name in tables, pictures and ``sensitivity.json``."""
    bits: int | None
    """Bits of a stored weight; ``None`` leaves it float."""
    group_size: int | None = None
    """Inputs that share a scale."""
    keeps_inputs: bool = True
    """If true, the product is computed in float."""

    def fits(self, width: int | None, is_weight_only: bool = False) -> bool:
        """Return whether a layer can be stored so.

        Args:
            width: Number of its inputs; ``None`` for an embedding table.
            is_weight_only: If true, the inputs of the layer stay float in every recipe.
        """
        if width is None:
            return self in (FLOAT, INT8)
        if self.group_size is not None:
            return width % self.group_size == 0
        return self.keeps_inputs or not is_weight_only

    def override(self, width: int, is_weight_only: bool = False) -> Override | None:
        """Return the recipe's setting for a linear layer of ``width`` inputs; ``None`` for one that stays float."""
        if self.bits is None:
            return None
        group_size = self.group_size
        if is_weight_only and self.bits == 8:
            # As the step itself stores such a layer.
            group_size = next((size for size in _WEIGHT_ONLY_GROUPS if width % size == 0), None)
        leaves_inputs = self.bits == 8 and self.keeps_inputs
        return Override.model_validate(
            {"bits": self.bits, "group_size": group_size, "activations": "none" if leaves_inputs else None}
        )

    def scheme(self, width: int | None, strategy: Strategy, is_weight_only: bool = False) -> Scheme | None:
        """Return how a layer is stored; ``None`` for float.

        Args:
            width: Number of its inputs; ``None`` for an embedding table.
            strategy: Range of rounded inputs.
            is_weight_only: If true, the inputs of the layer stay float in every recipe.
        """
        if width is None:
            return None if self.bits is None else Scheme(bits=8)
        override = self.override(width, is_weight_only)
        if override is None:
            return None
        activations: Activations = "none" if self.keeps_inputs else "dynamic"
        return Scheme(bits=override.bits, group_size=override.group_size, activations=activations, strategy=strategy)


FLOAT = Choice("float", None)
INT8 = Choice("int8", 8, keeps_inputs=False)
INT8_WEIGHT = Choice("int8-weight", 8)
_NARROW = tuple(Choice(f"int{bits}-g{size}", bits, size) for bits in (4, 3, 2) for size in (8, 16, 32, 64, 128))

CHOICES = (FLOAT, INT8_WEIGHT, INT8, *_NARROW)
"""All choices, from the one that changes a layer least; of fewer bits, smaller groups may."""
USUAL = (4, 8)
"""Bits of a stored weight that are measured where nothing asks for others."""
FOUR_BITS = next(choice for choice in CHOICES if choice.name == "int4-g64")
"""Choice of the recipe int4: a smaller budget asks for fewer bits."""
_ANCHOR_GROUPS = (64, 32, 16, 8, 128)


def choices_of(widths: Collection[int]) -> tuple[Choice, ...]:
    """Return the choices of some widths of a stored weight, and float."""
    return tuple(choice for choice in CHOICES if choice is FLOAT or choice.bits in widths)


def choice_of(name: str) -> Choice:
    """Return the choice of a name."""
    return next(choice for choice in CHOICES if choice.name == name)


def measured_like(choice: Choice, available: tuple[Choice, ...]) -> Choice:
    """Return the choice whose measurement stands for this one, scaled by the errors of both layers' outputs.

    To second order the divergence grows with the squared error of a layer's output, which is known without running the
    model. So one choice of each of 4, 3 and 2 bits is measured, and those of other groups follow from it, as 8 bits do
    from 4. Rounded inputs are an error of another kind, and are measured.
    """
    if choice in (FLOAT, INT8):
        return choice
    bits = 4 if choice.bits == 8 else choice.bits
    anchors = {anchor.group_size: anchor for anchor in available if anchor.bits == bits}
    return next((anchors[size] for size in _ANCHOR_GROUPS if size in anchors), choice)


def anchors(available: tuple[Choice, ...]) -> list[Choice]:
    """Return the choices that are measured; all others follow from them."""
    return [choice for choice in available if choice is not FLOAT and measured_like(choice, available) is choice]
