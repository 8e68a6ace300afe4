"""Quantization: which layer gets which scheme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.algorithms.quantized_blocks import QuantizedBlocks
from sottovoce.algorithms.rounding import check_finite
from sottovoce.architecture import Architecture, matches
from sottovoce.errors import CoverageError
from sottovoce.formats.compressed_tensors import EXPERT
from sottovoce.recipe import Quantize
from sottovoce.scheme import Scheme
from sottovoce.selection import Selection, select_layers

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.passage import BlockStep

_AUTOMATIC = (64, 32)


def quantize_(model: Model, architecture: Architecture, step: Quantize, calibration: Calibration) -> BlockStep:
    """Replace the target layers by quantized ones, block by block.

    Raises:
        CoverageError: The targets are less of the model than the step promises, or a group size does not fit a layer;
            the model is then unchanged.
        NotFiniteError: A weight is not finite.
    """
    selection = select_layers(model.module, architecture, step.targets, step.ignore, step.embeddings)
    _check_promise(selection, architecture, step)
    schemes = plan(selection, architecture, step)
    is_meta = next(model.module.parameters()).is_meta
    if model.stream is None and not is_meta:
        for name, layer in selection.layers.items():
            check_finite(name, layer)
    return QuantizedBlocks(model, architecture, step, calibration, selection, schemes)


def plan(selection: Selection, architecture: Architecture, step: Quantize) -> dict[str, Scheme]:
    """The scheme of every layer of a selection, in its order.

    Raises:
        CoverageError: A group size does not divide a layer's inputs; names the layer.
    """
    widths = {int(layer.in_features) for name, layer in selection.layers.items() if EXPERT.search(name)}  # type: ignore[arg-type]
    return {
        name: _scheme(name, layer, architecture, step, widths if EXPERT.search(name) else None)
        for name, layer in selection.layers.items()
    }


def _scheme(
    name: str, layer: nn.Module, architecture: Architecture, step: Quantize, widths: set[int] | None = None
) -> Scheme:
    """What a layer becomes; ``widths`` are those of layers that must have groups of one size with it."""
    if not hasattr(layer, "in_features"):
        return Scheme(bits=8)
    kind, width = type(layer).__name__, int(layer.in_features)  # type: ignore[arg-type]
    override = next((one for pattern, one in step.overrides.items() if matches(name, kind, pattern)), None)
    float_inputs = any(matches(name, kind, pattern) for pattern in architecture.float_inputs)
    bits = step.bits if override is None else override.bits
    group_size: int | str | None = step.group_size if override is None else override.group_size
    if bits == 4 and group_size in (None, "auto"):
        # Transformers stacks experts when it loads them, so all must be stored alike.
        together = widths or {width}
        group_size = _dividing(together)
        bits = 4 if group_size else 8
    elif group_size == "auto":
        group_size = None
    elif group_size is None and override is None and float_inputs and _may_have_groups(name, step):
        group_size = _dividing({width})
    elif group_size and width % int(group_size):
        raise CoverageError(_misfit(name, width, int(group_size)))
    rounds_inputs = bits == 8 and not float_inputs
    return Scheme(
        bits=bits,
        type=step.type,
        group_size=int(group_size) if group_size else None,
        symmetric=step.symmetric,
        activations=step.activations if rounds_inputs else "none",
        strategy=architecture.activation_strategy if step.activations == "dynamic" else "tensor",
    )


def _may_have_groups(name: str, step: Quantize) -> bool:
    """Whether 8 bits can have scales for groups; experts stay as other libraries know them."""
    return step.type == "int" and step.symmetric and not EXPERT.search(name)


def _dividing(widths: set[int]) -> int | None:
    return next((size for size in _AUTOMATIC if not any(width % size for width in widths)), None)


def _misfit(name: str, width: int, group_size: int) -> str:
    fits = [size for size in (128, 64, 32) if width % size == 0]
    advice = f"use group_size {fits[0]} for it" if fits else "store it in 8 bits"
    return f"groups of {group_size} do not divide the {width} inputs of {name!r}; {advice}, by an override"


def _check_promise(selection: Selection, architecture: Architecture, step: Quantize) -> None:
    default = architecture.min_coverage if step.targets is None and not step.ignore else 0.0
    promised = default if step.min_coverage is None else step.min_coverage
    if not selection.layers or selection.coverage.ratio < promised:
        raise CoverageError(
            f"quantize meets {selection.coverage.ratio:.1%} of the parameters of {architecture.name} "
            f"({len(selection.layers)} layers), the recipe promises {promised:.1%}; "
            "is the model compressed already, or do the targets miss? if less will do, say so with min_coverage in "
            "the recipe's step"
        )
