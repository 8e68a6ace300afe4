"""Rows of the page's tables, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sottovoce.report import ComparedModel, Comparison, LayerError, Metric, PairedTest, number_format

_LAYERS = 15
"""Layers of one model that the table lists."""


def shown_costs(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the costs beside the size that a table has a column for, with their labels."""
    metrics: dict[str, Metric] = {}
    for model in comparison.models:
        metrics |= {name: metric for name, metric in model.metrics.items() if metric.kind == "cost"}
    return [
        {"name": name, "label": str(metric.label or name), "timed": metric.turns is not None}
        for name, metric in metrics.items()
        if name != "size_bytes"
    ]


def model_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a row for every model: size, the deciding metric and its test, costs."""
    costs = shown_costs(comparison)
    return [_model_row(model, comparison, [cost["name"] for cost in costs]) for model in comparison.models]


def _model_row(model: ComparedModel, comparison: Comparison, costs: list[str]) -> dict[str, Any]:
    name, reference = comparison.metric or "", comparison.reference
    metric, test = model.metrics.get(name), model.tests.get(name)
    return {
        "name": model.name,
        "is_reference": model.is_reference,
        "size_bytes": model.size_bytes,
        "size": number_format.size(model.size_bytes),
        "ratio": "" if model is reference else number_format.factor(model.size_bytes, reference.size_bytes),
        "value": "" if metric is None or metric.value is None else metric.value,
        "shown": "-" if metric is None else number_format.value(metric.value, metric.unit),
        "interval": interval_text(model, name),
        "difference_value": "" if test is None else test.difference,
        "difference": "" if test is None or metric is None else _difference(test, metric),
        "difference_interval": "" if test is None or metric is None else _signed_bounds(test, metric),
        "p_value": "" if test is None else test.p,
        "p": "" if test is None else number_format.probability(test.p),
        "is_worse": test is not None and metric is not None and test.is_worse(metric.better),
        "costs": [_cost(model.metrics.get(cost)) for cost in costs],
        "changed": model.changed,
    }


def interval_text(model: ComparedModel, name: str) -> str:
    """Return the interval of a metric in brackets; nothing where there is none."""
    interval = model.intervals.get(name)
    return "" if interval is None else number_format.interval(interval.low, interval.high)


def _bounds(low: float, high: float, form: Any) -> str:
    return f"[{form(float(low))}, {form(float(high))}]"


def _signed_bounds(test: PairedTest, metric: Metric) -> str:
    return _bounds(test.low, test.high, lambda bound: _signed(bound, metric.unit))


def _difference(test: PairedTest, metric: Metric) -> str:
    unit = "points" if metric.unit == "%" else metric.unit
    return f"{_signed(float(test.difference), metric.unit)} {unit}".rstrip()


def _signed(value: float, unit: str) -> str:
    """Return a difference with its sign; of percentages with two decimals."""
    return f"{value:+.2f}" if unit == "%" else number_format.signed(value)


def _cost(metric: Metric | None) -> dict[str, Any]:
    if metric is None or metric.value is None:
        return {"value": "", "shown": "-", "detail": ""}
    return {"value": metric.value, "shown": number_format.value(metric.value, metric.unit), "detail": _detail(metric)}


def _detail(metric: Metric) -> str:
    """Return how a cost compares with the reference model's, with its spread where it was timed by turns."""
    turns = metric.turns
    if metric.value is None or metric.baseline is None:
        spread = turns.model if turns is not None else None
        return "" if spread is None else _bounds(*spread.quartiles, number_format.number)
    if turns is not None:
        low, high = turns.ratio.quartiles
        return f"× {turns.ratio.median:.2f} ({low:.2f} to {high:.2f})"
    return number_format.factor(metric.value, metric.baseline)


def metric_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a row for every metric, by its label, with a cell for every model."""
    known: dict[str, Metric] = {}
    for model in comparison.models:
        known |= {name: metric for name, metric in model.metrics.items() if name not in known}
    order = {"quality": 0, "against_baseline": 1, "cost": 2}
    rows = sorted(known.values(), key=lambda metric: order.get(metric.kind or "quality", 0))
    return [
        {
            "label": str(metric.label or metric.name),
            "arrow": {"higher": "↑", "lower": "↓"}.get(metric.better or "", ""),
            "cells": [_cell(model, metric.name) for model in comparison.models],
        }
        for metric in rows
    ]


def _cell(model: ComparedModel, name: str) -> Mapping[str, str]:
    metric = model.metrics.get(name)
    if metric is None:
        return {"shown": "", "interval": "", "test": ""}
    test = model.tests.get(name)
    compared = "" if test is None else f"{_difference(test, metric)}, p {number_format.probability(test.p)}"
    detail = _detail(metric) if metric.kind == "cost" else compared
    return {
        "shown": number_format.value(metric.value, metric.unit),
        "interval": interval_text(model, name),
        "test": detail,
    }


def layer_groups(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the layers with the largest errors of every model."""
    return [
        {
            "name": model.name,
            "count": len(model.layers) + model.layers_left_out,
            "rows": [_layer(layer) for layer in sorted(model.layers, key=_rank)[:_LAYERS]],
        }
        for model in comparison.models
        if model.layers
    ]


def _rank(layer: LayerError) -> float:
    """Return a number that is smallest for the layer that errs most."""
    return -layer.output_error if layer.output_error is not None else -(10 ** (-(layer.snr_db or 0.0) / 10))


def _layer(layer: LayerError) -> dict[str, str]:
    return {
        "name": layer.name,
        "bits": "" if layer.bits is None else number_format.number(float(layer.bits)),
        "error": "" if layer.output_error is None else number_format.small_percent(float(layer.output_error)),
        "snr": "" if layer.snr_db is None else f"{layer.snr_db:.1f} dB",
    }
