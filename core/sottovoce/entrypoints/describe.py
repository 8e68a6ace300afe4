"""Descriptions of steps and metrics, added to reports."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

from sottovoce.checkpoint.safe_config import is_file_name
from sottovoce.errors import reason
from sottovoce.metrics.kinds import described, label_of
from sottovoce.recipe.step import Step, step_classes
from sottovoce.report import CompressionReport, EvaluationReport, GateReport, StepReport
from sottovoce.report.problems import problem_of

_log = logging.getLogger("sottovoce")


def describe_step(report: StepReport, step: Step) -> StepReport:
    """Return a step's report with the step's summary, tags, effect, tables and figures.

    If the step fails in it, the work is not lost: a warning says so, and the step is described by its name.
    """
    try:
        described = replace(
            report,
            summary=step.summary(report),
            tags=step.tags(report),
            effect=step.effect,
            tables=step.tables(report),
            figures=step.figures(report),
        )
        problem = problem_of(described) or _figure_problem(described)
    except Exception as error:  # A plugin's, whatever it is.
        problem = reason(error)
    if problem is None:
        return described
    owner = type(step).__module__
    _log.warning("the step %r of %s cannot describe its work and is named only: %s", report.name, owner, problem)
    return replace(report, summary=Step().summary(report))


def _figure_problem(report: StepReport) -> str | None:
    outside = [figure.file for figure in report.figures if not is_file_name(figure.file)]
    return f"the figure {outside[0]!r} is not the name of a file beside the weights" if outside else None


def describe(report: CompressionReport) -> CompressionReport:
    """Return a report with descriptions of its steps and metrics, which files of earlier versions lack.

    A step that is not installed here is described by its name.
    """
    return replace(
        report,
        steps=[step if step.summary is not None else _describe_again(step) for step in report.steps],
        evaluations=[_describe_metrics(evaluation) for evaluation in report.evaluations],
        gate=report.gate and _describe_limits(report.gate),
    )


def _describe_again(report: StepReport) -> StepReport:
    if kind := step_classes().get(report.name):
        with contextlib.suppress(ValueError):  # Settings that no version wrote.
            step = kind.model_validate({key: value for key, value in report.step.items() if key != "step"})
            return describe_step(report, step)
    return replace(describe_step(report, Step()), tags=(report.name,))


def _describe_metrics(evaluation: EvaluationReport) -> EvaluationReport:
    return replace(evaluation, metrics={name: described(metric) for name, metric in evaluation.metrics.items()})


def _describe_limits(gate: GateReport) -> GateReport:
    labels = {metric: label for metric in map(GateReport.metric_of, gate.limits) if (label := label_of(metric))}
    return replace(gate, labels={**labels, **gate.labels})
