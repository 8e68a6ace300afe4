"""What would be compressed of a model, and what was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sottovoce.calibration import Calibration
from sottovoce.host import Host, default_host
from sottovoce.loading import load
from sottovoce.pipeline import parameters_by_bits, run_steps
from sottovoce.recipe import Recipe
from sottovoce.report import Coverage, StepReport
from sottovoce.selection import select_layers


def inspect(
    source: str | os.PathLike[str], recipe: Recipe | str | None = None, *, host: Host | None = None, **options: Any
) -> dict[str, Any]:
    """Say what would be compressed and what would not, with sizes. Nothing is run or written.

    With a recipe, its steps are applied to tensors without data, so the estimate is what ``compress`` would give.
    """
    host = host or default_host()
    chosen = host.recipe(recipe) if recipe is not None else None
    # Nothing is run, so the weights can stay where they are.
    model = load(source, host=host, **{"stream": True, **options})
    facts: dict[str, Any] = {
        "architecture": model.architecture.name,
        "class": type(model.module).__name__,
        "source": str(source),
        "size_bytes": model.size_bytes,
        "parameter_bits": parameters_by_bits(model),
    }
    if chosen is None and model.report is not None and model.report.steps:
        return facts | _found(model.report.to_dict()["steps"][-1]) | {"recipe": dict(model.report.recipe)}
    if chosen is None:
        selection = select_layers(model.module, model.architecture)
        plan = StepReport(step={}, targets=selection.targets, kept=selection.kept, coverage=selection.coverage)
        return facts | _found(plan.to_dict())
    model.module.to("meta")
    model.stream = None
    last = run_steps(chosen, model, Calibration(), host)[-1]
    estimate = {"size_bytes": model.size_bytes, "parameter_bits": parameters_by_bits(model)}
    return facts | _found(last.to_dict()) | {"recipe": chosen.to_dict(), "estimate": estimate}


def _found(step: Mapping[str, Any]) -> dict[str, Any]:
    coverage = step["coverage"] or Coverage(parameters=0, compressed_parameters=0).to_dict()
    return {
        "parameters": coverage["parameters"],
        "coverage": coverage,
        "targets": list(step["targets"]),
        "kept": list(step["kept"]),
        "notes": list(step["notes"]),
    }
