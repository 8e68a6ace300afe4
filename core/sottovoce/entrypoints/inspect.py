"""What would be compressed of a model, and what was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sottovoce.calibration.calibration import Calibration
from sottovoce.calibration.targets import select_layers
from sottovoce.checkpoint.weights import drop_data_
from sottovoce.entrypoints.compress import parameters_by_bits, run_steps
from sottovoce.entrypoints.load import load
from sottovoce.errors import CoverageError
from sottovoce.model import Model
from sottovoce.plugins.host import Host, default_host
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.recipe import Recipe
from sottovoce.report import Coverage, StepReport


def inspect(
    source: str | os.PathLike[str], recipe: Recipe | str | None = None, *, host: Host | None = None, **options: Any
) -> dict[str, Any]:
    """Say what would be compressed and what would not, with sizes. Nothing is run or written.

    With a recipe, its steps are applied to tensors without data, so the estimate is what ``compress`` would give; where
    ``compress`` would refuse for the coverage, ``refused`` says why.
    """
    # It needs torch, which importing this does not.
    from sottovoce.runtime.layers import least_memory_bytes

    host = host or default_host()
    chosen = host.recipe(recipe) if recipe is not None else None
    # Nothing is run, so the weights can stay where they are.
    model = load(source, host=host, **{"stream": True, **options})
    facts: dict[str, Any] = {
        "architecture": model.architecture.name,
        "class": type(model.module).__name__,
        "source": str(source),
        "size_bytes": model.size_bytes,
        "least_memory_bytes": least_memory_bytes(model.module),
        "parameter_bits": parameters_by_bits(model),
    }
    if chosen is None and model.report is not None and model.report.steps:
        return facts | _found(model.report.to_dict()["steps"][-1]) | {"recipe": dict(model.report.recipe)}
    if chosen is None:
        selection = select_layers(model.module, model.architecture)
        plan = StepReport(step={}, targets=selection.targets, kept=selection.kept, coverage=selection.coverage)
        return facts | _found(plan.to_dict())
    refused: dict[str, str] = {}
    try:
        last = _planned(chosen, model, host)
    except CoverageError as error:
        # What compress would refuse is what one asks about: show it all the same.
        refused = {"refused": str(error)}
        model = load(source, host=host, **{"stream": True, **options})
        try:
            last = _planned(_without_promises(chosen), model, host)
        except CoverageError:
            last = _met(chosen, model, error)
    bits = parameters_by_bits(model)
    estimate = {
        "size_bytes": model.size_bytes, "least_memory_bytes": least_memory_bytes(model.module),
        "parameters": sum(bits.values()), "parameter_bits": bits,
    }  # fmt: skip
    own = {"parameters": sum(facts["parameter_bits"].values())}
    return facts | _found(last.to_dict()) | own | {"recipe": chosen.to_dict(), "estimate": estimate} | refused


def _planned(recipe: Recipe, model: Model, host: Host) -> StepReport:
    """Apply a recipe's steps to the model without data."""
    drop_data_(model.module)
    model.stream = None
    return run_steps(recipe, model, Calibration(), host)[-1]


def _met(recipe: Recipe, model: Model, error: CoverageError) -> StepReport:
    """What the last step that quantizes would meet, where it cannot be applied for the error."""
    step = next((step for step in reversed(recipe.steps) if isinstance(step, Quantize)), None)
    if step is None:
        raise error
    selection = select_layers(model.module, model.architecture, step.targets, step.ignore, step.embeddings)
    if selection.targets:
        raise error
    return StepReport(step={}, targets=selection.targets, kept=selection.kept, coverage=selection.coverage)


def _without_promises(recipe: Recipe) -> Recipe:
    """The recipe with any coverage being enough."""
    steps = [
        step.model_copy(update={"min_coverage": 0.0}) if isinstance(step, Quantize) else step for step in recipe.steps
    ]
    return recipe.model_copy(update={"steps": steps})


def _found(step: Mapping[str, Any]) -> dict[str, Any]:
    coverage = step["coverage"] or Coverage(parameters=0, compressed_parameters=0).to_dict()
    return {
        "parameters": coverage["parameters"],
        "coverage": coverage,
        "targets": list(step["targets"]),
        "kept": list(step["kept"]),
        "notes": list(step["notes"]),
    }
