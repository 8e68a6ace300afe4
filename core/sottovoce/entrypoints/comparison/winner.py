"""The model to take: the smallest one that is not significantly worse, in sentences that say how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.report import ComparedModel, Metric, number_format
from sottovoce.report.paired_test import SIGNIFICANT


@dataclass(frozen=True)
class Choice:
    """The model that a rule gives, with the rule and its result in a sentence each."""

    winner: str | None
    rule: str
    verdict: str


def choose(
    models: Sequence[ComparedModel], reference: ComparedModel, metric: Metric | None, limit: int | None
) -> Choice:
    """Choose among models.

    Args:
        models: All models.
        reference: The one that the others are compared with.
        metric: The metric that decides; ``None`` where nothing was measured that could.
        limit: Bytes that the weights may take.
    """
    if len(models) == 1:
        return Choice(None, "", "")
    within = f" of at most {number_format.size(limit)}" if limit is not None else ""
    candidates = [model for model in models if limit is None or model.size_bytes <= limit]
    if metric is None or not candidates:
        why = "no metric has a better direction" if metric is None else f"no model takes {within.removeprefix(' of ')}"
        return Choice(None, "No rule applies.", f"No model is named: {why}.")
    others = [model for model in candidates if model is not reference]
    if others and all(metric.name in model.tests for model in others):
        return _by_test(candidates, reference, metric, within)
    return _by_value(candidates, metric, within)


def _by_test(candidates: Sequence[ComparedModel], reference: ComparedModel, metric: Metric, within: str) -> Choice:
    label = metric.label or metric.name
    rule = (
        f"The smallest model{within} whose {label} is not significantly worse than that of {reference.name}: "
        f"matched-pair randomization test over the samples, two-sided p of at least {SIGNIFICANT}, "
        "not corrected for the number of models."
    )
    holding = [
        model for model in candidates if model is reference or not model.tests[metric.name].is_worse(metric.better)
    ]
    if not holding:
        best = min(candidates, key=lambda model: model.tests[metric.name].loss(metric.better))
        return Choice(
            best.name,
            rule,
            f"Every model{within} is significantly worse than {reference.name}. {best.name} loses least.",
        )
    best = min(holding, key=lambda model: (model.size_bytes, model is reference))
    if best is reference:
        is_least = all(model.size_bytes >= best.size_bytes for model in candidates)
        why = (
            f"{best.name} is the smallest"
            if is_least
            else f"Every smaller model is significantly worse than {best.name}"
        )
        return Choice(best.name, rule, f"{why}.")
    return Choice(best.name, rule, _how_sure(best, reference, metric))


def _how_sure(best: ComparedModel, reference: ComparedModel, metric: Metric) -> str:
    test, unit = best.tests[metric.name], "points" if metric.unit == "%" else metric.unit
    values = [number_format.value(model.metrics[metric.name].value, metric.unit) for model in (best, reference)]
    most = -test.low if metric.better == "higher" else test.high
    samples = number_format.counted(test.samples, "sample")
    if not test.changed:
        none = "the one sample" if test.samples == 1 else f"none of the {samples}"
        rest = f"On {none} do they differ"
    elif most > 0:
        loss = f"{number_format.number(float(most))} {unit}".rstrip()
        rest = f"The {samples} cannot rule out a loss of up to {loss}"
    else:
        rest = f"The whole 95 % interval is without a loss, on {samples}"
    p = number_format.probability(test.p)
    return (
        f"{best.name} takes {number_format.size(best.size_bytes)} in place of "
        f"{number_format.size(reference.size_bytes)}. Its {metric.label or metric.name} is {values[0]}, that of "
        f"{reference.name} {values[1]} (p {p if p.startswith('<') else f'= {p}'}). {rest}."
    )


def _by_value(candidates: Sequence[ComparedModel], metric: Metric, within: str) -> Choice:
    label = metric.label or metric.name
    rule = f"The model{within} with the best {label}; of equal ones the smallest. There is no test of this metric."
    measured = [model for model in candidates if _value(model, metric) is not None]
    if not measured:
        return Choice(None, rule, f"No model is named: the {label} of none was measured.")
    sign = -1 if metric.better == "higher" else 1
    best = min(measured, key=lambda model: (sign * (_value(model, metric) or 0.0), model.size_bytes))
    value = number_format.value(_value(best, metric), metric.unit)
    return Choice(best.name, rule, f"{best.name} has the best {label}, {value}.")


def _value(model: ComparedModel, metric: Metric) -> float | None:
    measured = model.metrics.get(metric.name)
    return None if measured is None else measured.value
