"""Application of a recipe's steps by the plugins that implement them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.runner import SequentialRunner
from sottovoce.errors import PluginError, RecipeError
from sottovoce.report import StepReport
from sottovoce.report.problems import problem_of

if TYPE_CHECKING:
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.plugins.host import Host
    from sottovoce.recipe.recipe import Recipe

Result = TypeVar("Result", BlockStep, StepReport)


def apply_steps(recipe: Recipe, model: Model, calibration: Calibration, host: Host) -> list[StepReport]:
    """Apply the steps to a model, in place and in order; adjacent ones that work block by block share one pass.

    Raises:
        RecipeError: No plugin applies a step.
        PluginError: A plugin's result is not of the type that the step's class promises.
    """

    def call(number: int, promised: type[Result]) -> Result:
        step = recipe.steps[number]
        calibration.progress(step.name, number, len(recipe.steps))
        result = host.call(
            "sottovoce_compress",
            model.architecture,
            step=step,
            model=model,
            samples=calibration.samples,
            calibration=calibration.step(number),
        )
        if result is None:
            in_notebook = type(step).__module__ == "__main__"
            advice = "; add its hook with default_host().register, as docs/extend/step.md shows" if in_notebook else ""
            raise RecipeError(
                f"no installed plugin applies the step {step.name!r} to {model.architecture.name}{advice}"
            )
        if not isinstance(result, promised):
            promise = "a BlockStep, since it works block by block" if step.by_block else "a StepReport"
            raise PluginError(f"the step {step.name!r} promises {promise}, but a plugin gave {type(result).__name__}")
        return result

    def checked(number: int, report: StepReport) -> StepReport:
        if problem := problem_of(report):
            step = recipe.steps[number]
            raise PluginError(
                f"the step {step.name!r} of {type(step).__module__} gave a report that cannot be kept: {problem}"
            )
        return report

    reports: list[StepReport] = []
    for by_block, group in groupby(range(len(recipe.steps)), lambda number: recipe.steps[number].by_block):
        numbers = list(group)
        if by_block:
            block_steps = [call(number, BlockStep) for number in numbers]  # type: ignore[type-abstract]
            run = SequentialRunner(model, block_steps, calibration.step(numbers[0])).run()
            reports.extend(map(checked, numbers, run.reports))
            model.first_output = run.first_output
        else:
            # It needs torch, which importing this module does not.
            from sottovoce.runtime.layers import refresh_

            for number in numbers:
                reports.append(checked(number, call(number, StepReport)))
                # Biases that a step changed in place lie beside packed weights too.
                refresh_(model.module)
            model.first_output = None  # It was the output of the blocks as they were.
    return reports
