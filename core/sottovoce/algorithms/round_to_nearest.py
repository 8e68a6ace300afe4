"""Round-to-nearest quantization: no data, one pass over the weights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sottovoce.errors import CoverageError
from sottovoce.hookspecs import hookimpl
from sottovoce.recipe import Quantize, Step
from sottovoce.report import StepReport
from sottovoce.selection import Selection, select_layers

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.architecture import Architecture
    from sottovoce.model import Model


@hookimpl
def sottovoce_compress(step: Step, model: Model, architecture: Architecture) -> StepReport | None:
    """Apply :class:`~sottovoce.recipe.Quantize`."""
    return quantize_(model.module, architecture, step) if isinstance(step, Quantize) else None


def quantize_(module: nn.Module, architecture: Architecture, step: Quantize) -> StepReport:
    """Replace the target layers by int8 ones, in place, one after another so that memory only falls.

    Raises:
        CoverageError: The targets are less of the model than the step promises; the module is then unchanged.
    """
    begin = time.perf_counter()
    selection = select_layers(module, architecture, step.targets, step.ignore)
    _check_promise(selection, architecture, step)
    for name in selection.layers:
        _replace(module, name)
    return StepReport(
        step=step.to_dict(),
        targets=selection.targets,
        kept=selection.kept,
        coverage=selection.coverage,
        seconds=round(time.perf_counter() - begin, 3),
    )


def _check_promise(selection: Selection, architecture: Architecture, step: Quantize) -> None:
    default = architecture.min_coverage if step.targets is None and not step.ignore else 0.0
    promised = default if step.min_coverage is None else step.min_coverage
    if not selection.layers or selection.coverage.ratio < promised:
        raise CoverageError(
            f"quantize meets {selection.coverage.ratio:.1%} of the parameters of {architecture.name} "
            f"({len(selection.layers)} layers), the recipe promises {promised:.1%}; "
            f"is the model compressed already, or do the targets miss?"
        )


def _replace(module: nn.Module, name: str) -> None:
    from torch import nn

    from sottovoce.formats.int8_embedding import Int8Embedding
    from sottovoce.formats.int8_linear import Int8Linear

    parent_name, _, child_name = name.rpartition(".")
    parent = module.get_submodule(parent_name)
    layer = getattr(parent, child_name)
    quantized = Int8Embedding.from_float(layer) if isinstance(layer, nn.Embedding) else Int8Linear.from_float(layer)
    setattr(parent, child_name, quantized)
