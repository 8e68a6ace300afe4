"""Quantization: which layer gets which scheme."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sottovoce.architecture import Architecture
from sottovoce.calibration.targets import Selection, select_layers
from sottovoce.checkpoint.finite import refuse_infinite
from sottovoce.errors import CoverageError
from sottovoce.formats.stock_transformers import EXPERT
from sottovoce.quantization.quantize import QuantizeRunner
from sottovoce.quantization.smooth import has_pairs
from sottovoce.quantization.step import Override, Quantize
from sottovoce.recipe.pattern import matches
from sottovoce.recipe.scheme import Scheme
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import experts_in

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.calibration.block_step import BlockStep
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model

logger = logging.getLogger(__name__)

_AUTOMATIC = (64, 32, 16, 8)
_SERVED = (32, 64, 128)
"""Groups that vLLM's kernels for 4 bits take."""
_SERVED_BITS = (4, 8)


def prepare_quantize(model: Model, architecture: Architecture, step: Quantize, calibration: Calibration) -> BlockStep:
    """Return the runner that replaces the target layers by quantized ones, block by block.

    What another library cannot do with the result is logged now, before the work, and stands in the report.

    Raises:
        CoverageError: The targets are less of the model than the step promises, a group size does not fit a layer, or
            the method has nothing to work on; the model is then unchanged.
        NotFiniteError: A weight is not finite.
    """
    step = step.model_copy(update={"embeddings": tables_setting(model, architecture, step)})
    selection = select_layers(model.module, architecture, step.targets, step.ignore, step.embeddings)
    _check_promise(selection, architecture, step)
    schemes = plan(selection, architecture, step, model.planned_inputs)
    _check_method(model, architecture, step, schemes, selection)
    is_meta = next(model.module.parameters()).is_meta
    if model.stream is None and not is_meta:
        for name, layer in selection.layers.items():
            refuse_infinite([(f"{name}.weight", layer.weight)])
    blocks = QuantizeRunner(model, architecture, step, calibration, selection, schemes)
    blocks.notes.extend(_notes(selection, schemes, step, architecture))
    if not is_meta:
        for message in (*blocks.limits(), *blocks.notes):
            logger.warning(message)
    return blocks


def tables_setting(model: Model, architecture: Architecture, step: Quantize) -> str | None:
    """Return the setting for embedding tables in this model."""
    if step.embeddings != "auto":
        return step.embeddings
    is_mixture = any(True for _ in experts_in(model.module))
    return None if is_mixture and architecture.card.library_name == "transformers" else "int8"


def plan(
    selection: Selection, architecture: Architecture, step: Quantize, planned: Mapping[str, int] | None = None
) -> dict[str, Scheme]:
    """Return the scheme of every layer of a selection, in its order.

    Args:
        selection: The layers.
        architecture: Their family.
        step: How to quantize.
        planned: By name, the inputs of layers that earlier steps of the same pass will prune.

    Raises:
        CoverageError: A group size does not divide the inputs of layers; names them.
    """
    linear = {
        name: (planned or {}).get(name, int(layer.in_features))  # type: ignore[arg-type]
        for name, layer in selection.layers.items()
        if hasattr(layer, "in_features")
    }
    misfits: dict[tuple[int, int], list[str]] = {}
    for name, width in linear.items():
        if isinstance(size := _group_size(name, selection.layers[name], step), int) and width % size:
            misfits.setdefault((size, width), []).append(name)
    if misfits:
        raise CoverageError("; ".join(_misfit(names, width, size) for (size, width), names in misfits.items()))
    is_mixture = any(map(EXPERT.search, linear))
    # Transformers reads one size of groups for all experts of a model, and one for all that is beside experts.
    alike = architecture.card.library_name == "transformers" and is_mixture
    experts = {width for name, width in linear.items() if EXPERT.search(name)}
    others = {width for name, width in linear.items() if not EXPERT.search(name)} if alike else set()
    return {
        name: _scheme(name, layer, linear.get(name), architecture, step, experts if EXPERT.search(name) else others)
        for name, layer in selection.layers.items()
    }


def _group_size(name: str, layer: nn.Module, step: Quantize) -> int | str | None:
    """Return the recipe's group size for a linear layer."""
    override = _override(name, layer, step)
    return step.group_size if override is None else override.group_size


def _override(name: str, layer: nn.Module, step: Quantize) -> Override | None:
    kind = type(layer).__name__
    return next((override for pattern, override in step.overrides.items() if matches(name, kind, pattern)), None)


def _scheme(
    name: str, layer: nn.Module, width: int | None, architecture: Architecture, step: Quantize, alike: set[int]
) -> Scheme:
    """Return a layer's scheme.

    Args:
        name: The layer's name.
        layer: The layer.
        width: Number of its inputs; ``None`` for a table.
        architecture: Its family.
        step: How to quantize.
        alike: Widths of the layers that should share its group size.
    """
    if width is None:
        return Scheme(bits=8)
    kind = type(layer).__name__
    override, group_size = _override(name, layer, step), _group_size(name, layer, step)
    weight_only = any(matches(name, kind, pattern) for pattern in architecture.layers.weight_only)
    bits = step.bits if override is None else override.bits
    if bits < 8 and group_size in (None, "auto"):
        group_size = _dividing(alike | {width}) or _dividing({width})
        bits = bits if group_size else 8
    elif group_size == "auto":
        group_size = None
    elif group_size is None and override is None and weight_only and _may_have_groups(name, step):
        group_size = next((size for size in _AUTOMATIC[:2] if width % size == 0), None)
    is_float_input = weight_only or (override is not None and override.activations == "none")
    rounds_inputs = bits == 8 and not group_size and not is_float_input
    return Scheme(
        bits=bits,
        type=step.type,
        group_size=int(group_size) if group_size else None,
        symmetric=step.symmetric,
        activations=step.activations if rounds_inputs else "none",
        strategy=architecture.layers.activation_strategy if step.activations == "dynamic" else "tensor",
    )


def _may_have_groups(name: str, step: Quantize) -> bool:
    """Return true if 8-bit weights may have scales for groups; experts stay as other libraries expect them."""
    return step.type == "int" and step.symmetric and not EXPERT.search(name)


def _dividing(widths: set[int]) -> int | None:
    return next((size for size in _AUTOMATIC if not any(width % size for width in widths)), None)


def _misfit(names: Sequence[str], width: int, group_size: int) -> str:
    """Return the message about all layers of a width that a group size does not divide."""
    fits = [size for size in (128, *_AUTOMATIC) if width % size == 0]
    more = f" and of {counted(len(names) - 1, 'layer')} more" if len(names) > 1 else ""
    advice = f"use group_size {fits[0]}" if fits else "store in 8 bits"
    inputs = f"{counted(width, 'input')} of {names[0]!r}{more}"
    return f"groups of {group_size} do not divide the {inputs}: {advice}, by an override"


def _notes(
    selection: Selection, schemes: Mapping[str, Scheme], step: Quantize, architecture: Architecture
) -> Iterator[str]:
    """Yield notes on layers for few bits that vLLM does not take, or whose inputs the usual groups do not divide."""
    narrow = [
        name
        for name in schemes
        if hasattr(selection.layers[name], "in_features")
        and (step.bits if (override := _override(name, selection.layers[name], step)) is None else override.bits) < 8
    ]
    if wide := [name for name in narrow if schemes[name].bits == 8]:
        yield f"{_some(wide)}: 8 bits, for no group of {_listed(_AUTOMATIC)} divides their inputs"
    if architecture.layers.vllm_names and (
        unserved := [name for name in narrow if schemes[name].bits not in _SERVED_BITS]
    ):
        widths = sorted({schemes[name].bits for name in unserved})
        yield f"{_some(unserved)}: {_listed(widths)} bits, which vLLM does not load; it takes {_listed(_SERVED_BITS)}"
    small: dict[int, list[str]] = {}
    for name in narrow:
        size = schemes[name].group_size
        if schemes[name].bits < 8 and size is not None and size not in _SERVED:
            small.setdefault(size, []).append(name)
    for size, names in small.items():
        served = f"; vLLM's kernels take {_listed(_SERVED)}" if architecture.layers.vllm_names else ""
        yield f"{_some(names)}: groups of {size}, the largest that divides their inputs{served}"


def _some(names: Sequence[str]) -> str:
    return repr(names[0]) if len(names) == 1 else f"{len(names)} layers such as {names[0]!r}"


def _listed(sizes: Sequence[int]) -> str:
    return " or ".join(part for part in (", ".join(map(str, sizes[:-1])), str(sizes[-1])) if part)


def _check_method(
    model: Model, architecture: Architecture, step: Quantize, schemes: Mapping[str, Scheme], selection: Selection
) -> None:
    """Refuse a method that would change nothing.

    Raises:
        CoverageError: It would not.
    """
    if step.method == "round_to_nearest":
        return
    linear = [name for name in schemes if hasattr(selection.layers[name], "in_features")]
    if not linear:
        raise CoverageError(
            f"{step.method} is for linear layers, and all {counted(len(schemes), 'layer')} of this step hold tables; "
            "set the method to round_to_nearest"
        )
    if step.options.scales_inputs and not has_pairs(
        model.module, architecture, lambda pair: any(name in schemes for name in pair.layers)
    ):
        raise CoverageError(
            f"{architecture.name} states no modules that {step.method} can scale for these layers, so it "
            "would change nothing; use gptq, or set the method to round_to_nearest"
        )


def _check_promise(selection: Selection, architecture: Architecture, step: Quantize) -> None:
    default = architecture.layers.min_coverage if step.targets is None and not step.ignore else 0.0
    promised = default if step.min_coverage is None else step.min_coverage
    if not selection.layers or selection.coverage.ratio < promised:
        raise CoverageError(
            f"quantize meets {selection.coverage.ratio:.1%} of the parameters of {architecture.name} "
            f"({counted(len(selection.layers), 'layer')}), the recipe promises {promised:.1%}; "
            "is the model compressed already, or do the targets miss? if less will do, say so with min_coverage in "
            "the recipe's step"
        )
