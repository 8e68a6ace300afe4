"""Rows of a report's table, for terminals and notebooks."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sottovoce.report import number_format
from sottovoce.report.plain_table import PlainTable

if TYPE_CHECKING:
    from sottovoce.report.compression import CompressionReport
    from sottovoce.report.evaluation import EvaluationReport
    from sottovoce.report.metric import Metric
    from sottovoce.report.step import StepReport, Target


def tabulate_evaluation(report: EvaluationReport) -> PlainTable:
    """Return one row a metric; with a baseline, its values and the changes beside them."""
    samples, beside = report.samples, report.baseline is not None
    title = f"{report.model}: {samples.count} samples, {samples.audio_seconds or 0:.0f} s of audio"
    header = ("metric", "baseline", "model", "change") if beside else ("metric", "model")
    return PlainTable(title, [_metric_row(metric, beside) for metric in report.metrics.values()], header)


def _metric_row(metric: Metric, beside: bool) -> tuple[str, ...]:
    value = number_format.value(metric.value, metric.unit)
    if not beside:
        return metric.name, value
    return metric.name, number_format.value(metric.baseline, metric.unit), value, change(metric)


def change(metric: Metric) -> str:
    """Return the change from the baseline: a factor for costs, a difference for other metrics."""
    if metric.value is None or metric.baseline is None:
        return ""
    if metric.turns is not None:
        ratio = metric.turns.ratio
        return f"x {ratio.median:.2f} ({ratio.quartiles[0]:.2f} to {ratio.quartiles[1]:.2f})"
    if metric.kind == "cost":
        return f"x {metric.value / metric.baseline:.2f}" if metric.baseline else ""
    unit = "points" if metric.unit == "%" else metric.unit
    return f"{metric.value - metric.baseline:+.2f} {unit}".rstrip()


def tabulate_compression(report: CompressionReport) -> PlainTable:
    """Return what a compression did, a fact a row."""
    return PlainTable(report.output or report.source.name, list(_compression(report)))


def _compression(report: CompressionReport) -> Iterator[tuple[str, str]]:
    before, after = report.size_bytes.before, report.size_bytes.after
    for step in report.steps:
        yield step.name, str(step.summary or "applied")
        yield from _tables(step)
    if report.coverage.parameters:
        yield "compressed", f"{report.coverage.ratio:.1%} of {report.coverage.parameters:,} parameters"
    ratio = f" (x {after / before:.2f})" if before else ""
    yield "weights", f"{number_format.size(before)} -> {number_format.size(after)}{ratio}"
    if report.parameter_bits:
        yield "parameters by bits", number_format.bits(report.parameter_bits.before, report.parameter_bits.after)
    yield from _accuracy([target for step in report.steps for target in step.targets])
    if gate := report.gate:
        limits = ", ".join(f"{name} {'-' if value is None else f'{value:.4g}'}" for name, value in gate.found.items())
        yield "gate", f"{limits}; {len(gate.raised)} layers restored to higher precision"
    yield "time", f"{report.seconds:.1f} s"
    memory: Mapping[str, tuple[int | None, str]] = {
        "peak memory": (report.peak_memory_bytes, ""),
        "peak GPU memory": (report.peak_gpu_memory_bytes, ""),
        "minimum memory to run": (report.least_memory_bytes, ", without libraries"),
    }
    for name, (count, remark) in memory.items():
        if count:
            yield name, f"{number_format.size(count)}{remark}"


def _tables(step: StepReport) -> Iterator[tuple[str, str]]:
    """Yield the short tables that a step brought: a name and a number a row."""
    for table in step.tables:
        if [column.format for column in table.columns[1:]] == ["percent"]:
            cells = (f"{share:.1%} ({name})" for name, share in table.rows if isinstance(share, int | float))
            yield str(table.columns[1].label), ", ".join(cells)


def _accuracy(targets: Sequence[Target]) -> Iterator[tuple[str, str]]:
    """Yield the layers' signal-to-noise ratio and output error, as far as they were measured."""
    ratios = [(target.snr_db, target.name) for target in targets if target.snr_db is not None]
    if ratios:
        least, worst = min(ratios)
        median = statistics.median(ratio for ratio, _ in ratios)
        yield "signal-to-noise ratio", f"median {median:.1f} dB, least {least:.1f} dB ({worst})"
    errors = [(error, target.rounded_output_error or 0) for target in targets if (error := target.output_error)]
    if errors:
        mean, rounded = (statistics.mean(side) for side in zip(*errors, strict=True))
        yield "output error", f"mean {mean:.3%} of a layer's output power; rounded to nearest {rounded:.3%}"
