"""Intervals of measured metrics, and tests of two models on the same samples, as reports have them."""

from __future__ import annotations

from collections.abc import Mapping

from sottovoce.metrics.statistics import interval, paired_difference
from sottovoce.report import Interval, Metric, PairedTest


def intervals_of(metrics: Mapping[str, Metric]) -> dict[str, Interval]:
    """Return the interval of every metric that has one."""
    bounds = {name: interval(metric) for name, metric in metrics.items()}
    return {name: Interval(low=pair[0], high=pair[1]) for name, pair in bounds.items() if pair}


def tests_against(metrics: Mapping[str, Metric], reference: Mapping[str, Metric]) -> dict[str, PairedTest]:
    """Return the comparison of every metric of quality with that of another model on the same samples."""
    tests: dict[str, PairedTest] = {}
    for name in metrics.keys() & reference.keys():
        paired = paired_difference(metrics[name], reference[name])
        if paired is not None and metrics[name].kind == "quality":
            tests[name] = PairedTest(**vars(paired))
    return tests
