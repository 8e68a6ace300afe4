"""Inspection of a model: the layers that a recipe compresses, or has compressed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sottovoce.calibration.calibration import Calibration
from sottovoce.calibration.targets import Selection, select_layers
from sottovoce.checkpoint.weights import drop_data_
from sottovoce.entrypoints.apply_steps import apply_steps
from sottovoce.entrypoints.compress import parameters_by_bits
from sottovoce.entrypoints.load import load
from sottovoce.errors import CoverageError
from sottovoce.model import Model
from sottovoce.plugins.host import Host, default_host
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.recipe import Recipe, RecipeArgument
from sottovoce.report import Coverage, StepReport


def inspect(
    source: str | os.PathLike[str], recipe: RecipeArgument | None = None, *, host: Host | None = None, **options: Any
) -> dict[str, Any]:
    """Return what a recipe would compress and what it would keep, with sizes. Nothing is run or written.

    With a recipe, its steps are applied to tensors without data, so the estimate is exactly the result of ``compress``.
    Without one, the facts are of the compression that was applied, or of the family's default targets.

    Args:
        source: As for :func:`load`.
        recipe: As for ``compress``.
        host: The plugins; by default the process's own.
        **options: As for :func:`load`.

    Returns:
        The facts in the form of JSON. ``refused`` is the reason if ``compress`` would refuse for the coverage.

    Raises:
        SottovoceError: As for :func:`load` and :func:`compress`.
    """
    host = host or default_host()
    recipe = host.recipe(recipe) if recipe is not None else None

    def load_unread() -> Model:
        # Nothing is run, so the weights can stay on disk.
        return load(source, host=host, **{"stream": True, **options})

    model = load_unread()
    facts = {
        "architecture": model.architecture.name,
        "class": type(model.module).__name__,
        "source": str(source),
        **_sizes(model),
    }
    if recipe is not None:
        return facts | _plan(recipe, model, host, load_unread)
    if model.report is not None and model.report.steps:
        return facts | _layers(model.report.steps[-1]) | {"recipe": dict(model.report.recipe)}
    return facts | _layers(_unapplied(select_layers(model.module, model.architecture)))


def _plan(recipe: Recipe, model: Model, host: Host, load_again: Callable[[], Model]) -> dict[str, Any]:
    """Return the layers, the recipe, the estimate and any refusal of a recipe."""
    parameters = sum(parameters_by_bits(model).values())
    refused: dict[str, str] = {}
    try:
        report = _dry_run(recipe, model, host)
    except CoverageError as error:
        # A recipe that compress would refuse is just what a user inspects, so the facts are shown all the same.
        refused = {"refused": str(error)}
        model = load_again()
        try:
            report = _dry_run(_without_coverage(recipe), model, host)
        except CoverageError:
            report = _matches(recipe, model, error)
    sizes = _sizes(model)
    estimate = sizes | {"parameters": sum(sizes["parameter_bits"].values())}
    layers = _layers(report) | {"parameters": parameters}
    return layers | {"recipe": recipe.to_dict(), "estimate": estimate} | refused


def _sizes(model: Model) -> dict[str, Any]:
    # It needs torch, which importing this does not.
    from sottovoce.runtime.layers import least_memory_bytes

    return {
        "size_bytes": model.size_bytes,
        "least_memory_bytes": least_memory_bytes(model.module, model.architecture.runner.int8_copies),
        "parameter_bits": parameters_by_bits(model),
    }


def _dry_run(recipe: Recipe, model: Model, host: Host) -> StepReport:
    """Apply a recipe's steps to the model without data, and return the last step's report."""
    drop_data_(model.module)
    model.stream = None
    return apply_steps(recipe, model, Calibration(), host)[-1]


def _matches(recipe: Recipe, model: Model, error: CoverageError) -> StepReport:
    """Return the selection of the last step that quantizes if it is empty; raise ``error`` otherwise."""
    step = next((step for step in reversed(recipe.steps) if isinstance(step, Quantize)), None)
    if step is None:
        raise error
    selection = select_layers(model.module, model.architecture, step.targets, step.ignore, step.embeddings)
    if selection.targets:
        raise error
    return _unapplied(selection)


def _unapplied(selection: Selection) -> StepReport:
    return StepReport(step={}, targets=selection.targets, kept=selection.kept, coverage=selection.coverage)


def _without_coverage(recipe: Recipe) -> Recipe:
    """Return the recipe without a minimum of the coverage."""
    steps = [
        step.model_copy(update={"min_coverage": 0.0}) if isinstance(step, Quantize) else step for step in recipe.steps
    ]
    return recipe.model_copy(update={"steps": steps})


def _layers(report: StepReport) -> dict[str, Any]:
    step = report.to_dict()
    coverage = step["coverage"] or Coverage(parameters=0, compressed_parameters=0).to_dict()
    return {
        "parameters": coverage["parameters"],
        "coverage": coverage,
        "targets": list(step["targets"]),
        "kept": list(step["kept"]),
        "notes": list(step["notes"]),
    }
