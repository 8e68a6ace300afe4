"""The comparison that measurements of several models amount to."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.architecture import Architecture
from sottovoce.entrypoints.comparison.utterances import Utterances
from sottovoce.entrypoints.comparison.winner import choose
from sottovoce.entrypoints.measurement import Measurement
from sottovoce.entrypoints.significance import intervals_of, tests_against
from sottovoce.metrics.headline import deciding
from sottovoce.report import (
    ComparedModel,
    Comparison,
    CompressionReport,
    LayerError,
    LeftOut,
    Metric,
    SampleSet,
    StepReport,
    Target,
    notes,
)
from sottovoce.samples import Samples
from sottovoce.text.plain_text import one_line, shortened

LAYERS = 300
"""Layers of one model that are listed at most."""


@dataclass(frozen=True)
class Entry:
    """One model of a comparison."""

    name: str
    measurement: Measurement
    report: CompressionReport | None = None
    """Report of its compression; ``None`` for a model as published."""
    command: str | None = None
    """Command that makes it."""


@dataclass(frozen=True)
class Setting:
    """Samples of a comparison, and its limits."""

    title: str
    samples: Samples
    architecture: Architecture
    has_reference: bool = True
    """If true, the first model is the one that the others are compared with; else it is the best."""
    max_size_bytes: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    heading: str = "Comparison"


def build(entries: Sequence[Entry], setting: Setting, listed: int) -> Comparison:
    """Return the comparison.

    Args:
        entries: The models; if there is a reference it is the first.
        setting: What they were compared on.
        listed: Utterances to list at most.
    """
    language = setting.architecture.card.languages[0] if setting.architecture.card.languages else ""
    metric = _deciding(entries, language)
    reference = entries[0] if setting.has_reference else _best(entries, metric)
    measured = {entry.name: metric and entry.measurement.metrics.get(metric.name) for entry in entries}
    predictions = {entry.name: entry.measurement.run.predictions for entry in entries}
    utterances = Utterances(setting.samples, predictions, reference.name, measured, language or None)
    models = tuple(_model(entry, reference, utterances) for entry in entries)
    choice = choose(models, next(model for model in models if model.is_reference), metric, setting.max_size_bytes)
    shown, rest = utterances.listed(listed)
    return Comparison(
        title=setting.title,
        heading=setting.heading,
        models=models,
        samples=SampleSet(**setting.samples.to_dict()),
        architecture=setting.architecture.name,
        machine=reference.measurement.machine,
        metric=None if metric is None else metric.name,
        winner=choice.winner,
        rule=choice.rule,
        verdict=choice.verdict,
        left_out=setting.left_out,
        max_size_bytes=setting.max_size_bytes,
        utterances=shown,
        utterances_left_out=rest,
        notes=(*setting.notes, *_notes(models, setting.samples)),
        date=datetime.date.today().isoformat(),
    )


def utterances_of(entries: Sequence[Entry], comparison: Comparison, setting: Setting) -> Utterances:
    """Return the predictions of all samples, side by side as in the comparison."""
    name = comparison.metric or ""
    language = setting.architecture.card.languages[0] if setting.architecture.card.languages else None
    return Utterances(
        setting.samples,
        {entry.name: entry.measurement.run.predictions for entry in entries},
        comparison.reference.name,
        {entry.name: entry.measurement.metrics.get(name) for entry in entries},
        language,
    )


def _deciding(entries: Sequence[Entry], language: str) -> Metric | None:
    """Return the metric that decides, as the last model has it: one that all have, or all but the first."""
    common = set.intersection(*(_measured(entry) for entry in entries[1:] or entries))
    last = entries[-1].measurement.metrics
    of_all = common & _measured(entries[0])
    by_itself = deciding((metric for name, metric in last.items() if name in of_all), language)
    return by_itself or deciding((metric for name, metric in last.items() if name in common), language)


def _measured(entry: Entry) -> set[str]:
    return {name for name, metric in entry.measurement.metrics.items() if metric.value is not None}


def _best(entries: Sequence[Entry], metric: Metric | None) -> Entry:
    """Return the model with the best value; of equal ones the largest."""
    if metric is None:
        return entries[0]
    sign = -1 if metric.better == "higher" else 1
    return min(
        entries,
        key=lambda entry: (
            sign * (entry.measurement.metrics[metric.name].value or 0.0),
            -sum(entry.measurement.parts.values()),
        ),
    )


def _model(entry: Entry, reference: Entry, utterances: Utterances) -> ComparedModel:
    metrics = entry.measurement.metrics
    tests = {} if entry is reference else tests_against(metrics, reference.measurement.metrics)
    layers = _layers(entry.report.steps if entry.report else ())
    kept = _largest(layers)
    return ComparedModel(
        name=entry.name,
        size_bytes=sum(entry.measurement.parts.values()),
        metrics=metrics,
        is_reference=entry is reference,
        recipe=entry.report.recipe_name if entry.report else None,
        steps=tuple(str(step.summary or step.name) for step in entry.report.steps) if entry.report else (),
        intervals=intervals_of(metrics),
        tests=tests,
        parts=entry.measurement.parts,
        layers=kept,
        layers_left_out=len(layers) - len(kept),
        compression_seconds=entry.report.seconds if entry.report else None,
        command=entry.command,
        changed=utterances.changed(entry.name),
        trained_on=entry.measurement.trained_on,
        cut_off=entry.measurement.cut_off,
    )


def _layers(steps: Sequence[StepReport]) -> list[Target]:
    """Return the layers whose error was measured, each as the last step left it."""
    layers: dict[str, Target] = {}
    for step in steps:
        for target in step.targets:
            if target.output_error is not None or target.snr_db is not None:
                layers[target.name] = target
    return list(layers.values())


def _largest(layers: Sequence[Target]) -> tuple[LayerError, ...]:
    """Return the layers with the largest errors, in the order of the model."""
    order = sorted(range(len(layers)), key=lambda number: -_error(layers[number]))[:LAYERS]
    return tuple(
        LayerError(
            name=shortened(one_line(layers[number].name), 200),
            bits=_rounded(layers[number].bits),
            snr_db=_rounded(layers[number].snr_db),
            output_error=_rounded(layers[number].output_error),
        )
        for number in sorted(order)
    )


def _error(layer: Target) -> float:
    if layer.output_error is not None:
        return layer.output_error
    return float(10 ** (-(layer.snr_db or 0.0) / 10))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _notes(models: Sequence[ComparedModel], samples: Samples) -> list[str]:
    facts = SampleSet(**samples.to_dict())
    count = facts.count
    trained = [note for model in models for note in notes.trained_on(model.name, model.trained_on, count)]
    unfinished = [note for model in models for note in notes.cut_off(model.name, model.cut_off, count)]
    return [*notes.too_short(facts.too_short, count), *trained, *unfinished]
