"""Tables of measured numbers: the base model, this one, and its variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sottovoce.metrics import cost
from sottovoce.metrics.kinds import metric_kinds
from sottovoce.report import (
    CompressionReport,
    EvaluationReport,
    Interval,
    Machine,
    Metric,
    PairedTest,
    SampleSet,
    number_format,
)
from sottovoce.report.metric import Spread
from sottovoce_hub.card.headline import Headline, arrow, headline, is_quality, same_machine, same_metric, speed
from sottovoce_hub.card.markdown import Markdown, code, link, table, text
from sottovoce_hub.card.translations import Translations
from sottovoce_hub.card.urls import page
from sottovoce_hub.card.variant import Variant

_TIMES = (cost.LATENCY.name, cost.RTF.name)


def sizes(report: CompressionReport, words: Translations) -> Markdown:
    """Return the table of a model that was never evaluated: its size."""
    return _comparison([_size(report)], None, words)


def comparison(report: CompressionReport, evaluation: EvaluationReport, words: Translations) -> Markdown:
    """Return the base model beside this one, by the metrics of one evaluation."""
    metrics = {**evaluation.metrics}
    if cost.SIZE.name not in metrics or metrics[cost.SIZE.name].baseline is None:
        metrics[cost.SIZE.name] = _size(report)
    first = headline(report)
    quality = sorted(filter(is_quality, metrics.values()), key=lambda metric: not (first and _is(metric, first)))
    expected = {name: kind.measured(None) for name, kind in metric_kinds().items() if kind.always_shown}
    known = [name for name, kind in metric_kinds().items() if kind.kind == "cost" and name in expected | metrics]
    costs = dict.fromkeys((*known, *(name for name, metric in metrics.items() if not is_quality(metric))))
    return _comparison([*quality, *(metrics.get(name) or expected[name] for name in costs)], evaluation, words)


def explained(report: CompressionReport) -> frozenset[str]:
    """Return what the tables of a report's evaluations need explained: recovery, intervals, tests, times, memory."""
    evaluations = report.evaluations
    metrics = [metric for evaluation in evaluations for metric in evaluation.metrics.values()]
    present = {
        "recovery": any(map(_recovery, metrics)),
        "intervals": any(evaluation.intervals for evaluation in evaluations),
        "tests": any(evaluation.tests for evaluation in evaluations),
        "times": any(metric.name in _TIMES and metric.turns for metric in metrics),
        "memory": any(metric.name == cost.PEAK_MEMORY.name and metric.value is not None for metric in metrics),
    }
    return frozenset(name for name, is_present in present.items() if is_present)


def _is(metric: Metric, first: Headline) -> bool:
    return metric.name == first.metric.name


def data(samples: SampleSet, words: Translations) -> Markdown:
    """Return name, count, length and digest of samples."""
    name = code(samples.name) if samples.name else words("unnamed_samples")
    length, digest = samples.audio_seconds, samples.sha256
    seconds = words("data_seconds", seconds=number_format.number(length)) if length else Markdown("")
    sha256 = words("data_digest", digest=code(digest)) if digest else Markdown("")
    return words("data", name=name, count=number_format.count(samples.count), seconds=seconds, digest=sha256)


def hardware(machine: Machine, words: Translations) -> Markdown:
    """Return hardware, threads and versions."""
    parts = [
        words(f"machine_{name}", value=machine[name])
        for name in ("processor", "cores", "threads", "system")
        if machine[name] is not None
    ]
    return Markdown(words("separator").join([*parts, *_versions(machine.versions)]))


def versions(known: Mapping[str, str], words: Translations) -> Markdown:
    """Return libraries with their versions."""
    return Markdown(words("separator").join(_versions(known)))


def _versions(known: Mapping[str, str]) -> list[Markdown]:
    return [Markdown(f"{text(name)} {text(version)}") for name, version in known.items()]


def variants(
    report: CompressionReport, name: str, others: Sequence[Variant], hub: str, words: Translations
) -> Markdown:
    """Return all published sizes of a model side by side.

    Quality is shown of those that were measured on the same samples; speed as a factor of what the base model took in
    the same run, on the same machine: a machine is not equally fast every day.
    """
    first = headline(report)
    fast = speed(first.evaluation) if first else None
    headers = [words("variant"), words("size")]
    if first:
        headers.append(_heading(first.metric, words))
    if fast:
        headers.append(words("speed_factor", metric=_heading(fast, words)))
    rows = [[Markdown(f"**{text(name)}**"), *_row(report, first, fast, words)]]
    for other in others:
        address = link(other.name, page(other.repository, hub, other.branch))
        rows.append([address, *_row(other.checked, first, fast, words)])
    if report.base_bytes is not None:
        size = Markdown(number_format.size(report.base_bytes))
        rows.insert(0, [words("base_model"), size, *_base(first, fast, words)])
    return table(headers, rows)


def _base(first: Headline | None, fast: Metric | None, words: Translations) -> Iterator[Markdown]:
    if first:
        yield _baseline(first.metric, words)
    if fast:
        yield words("reference")


def _row(
    report: CompressionReport, first: Headline | None, fast: Metric | None, words: Translations
) -> Iterator[Markdown]:
    yield Markdown(number_format.size(report.size_bytes.after))
    if first is None:
        return
    same = same_metric(report, first)
    yield words.value(same.metric.value, same.metric.unit) if same else words("not_measured")
    if fast is None:
        return
    comparable = same is not None and same_machine(same.evaluation, first.evaluation)
    metric = same.evaluation.metrics.get(fast.name) if same and comparable else None
    if metric is None or metric.value is None or not metric.baseline:
        yield words("not_measured")
    else:
        yield Markdown(number_format.factor(metric.value, metric.baseline))


def headline_row(first: Headline, words: Translations) -> Markdown:
    """Return the row of the metric that speaks for the model in the table of facts."""
    metric, samples = first.metric, first.evaluation.samples
    value = words.value(metric.value, metric.unit)
    if metric.baseline is not None:
        value = Markdown(f"{words.value(metric.baseline, metric.unit)} → {value}")
    measured = words("on_samples", value=value, count=number_format.count(samples.count))
    return Markdown(f"| {words.metric(metric)} | {measured} |")


def _size(report: CompressionReport) -> Metric:
    return cost.SIZE.measured(report.size_bytes.after, baseline=report.base_bytes)


def _comparison(metrics: Sequence[Metric], evaluation: EvaluationReport | None, words: Translations) -> Markdown:
    headers = [words("metric"), words("base_model"), words("this_model"), words("change"), words("recovery")]
    before, after = (evaluation.baseline_intervals, evaluation.intervals) if evaluation else ({}, {})
    tests = evaluation.tests if evaluation else {}
    rows = [
        [
            _heading(metric, words),
            _with_interval(_baseline(metric, words), before.get(metric.name)),
            _with_interval(
                _timed(metric, metric.turns.model if metric.turns else None, metric.value, words),
                after.get(metric.name),
            ),
            _with_probability(_change(metric, words), tests.get(metric.name)),
            _recovery(metric),
        ]
        for metric in metrics
    ]
    if not any(row[-1] for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return table(headers, rows)


def _with_interval(value: Markdown, interval: Interval | None) -> Markdown:
    return value if interval is None else Markdown(f"{value} {number_format.interval(interval.low, interval.high)}")


def _with_probability(change: Markdown, test: PairedTest | None) -> Markdown:
    return change if test is None else Markdown(f"{change} (p {number_format.probability(test.p)})")


def _timed(metric: Metric, spread: Spread | None, value: float | None, words: Translations) -> Markdown:
    """Return a value with its unit; a time with its quartiles, and none where it was not measured in rounds."""
    if metric.name not in _TIMES:
        return words.value(value, metric.unit)
    if metric.turns is None:
        return words("not_measured")
    if spread is None:  # as files of earlier versions, which have the spread of the ratio alone
        return words.value(value, metric.unit)
    low, high = (number_format.number(float(quartile)) for quartile in spread.quartiles)
    return Markdown(f"{words.value(float(spread.median), metric.unit)} ({low}-{high})")


def _recovery(metric: Metric) -> Markdown:
    """Return the share of the base model's quality that is left: of what it gets right, where errors are counted."""
    if metric.kind != "quality" or metric.value is None or metric.baseline is None or metric.unit != "%":
        return Markdown("")
    after, before = float(metric.value), float(metric.baseline)
    if metric.better == "lower":
        after, before = 100 - after, 100 - before
    return Markdown(f"{100 * after / before:.1f} %" if before > 0 else "")


def _heading(metric: Metric, words: Translations) -> Markdown:
    return Markdown(f"{words.metric(metric)} {arrow(metric)}".rstrip())


def _baseline(metric: Metric, words: Translations) -> Markdown:
    against = metric.kind == "against_baseline"
    if against:
        return words("reference")
    return _timed(metric, metric.turns.baseline if metric.turns else None, metric.baseline, words)


def _change(metric: Metric, words: Translations) -> Markdown:
    if metric.value is None or metric.baseline is None:
        return Markdown("")
    if metric.turns is not None:
        ratio = metric.turns.ratio
        low, high = (number_format.number(float(quartile)) for quartile in ratio.quartiles)
        return Markdown(f"{number_format.factor(float(ratio.median), 1.0)} ({low}-{high})")
    if metric.name in _TIMES:
        return Markdown("")
    if metric.kind == "cost":
        return Markdown(number_format.factor(metric.value, metric.baseline))
    difference = metric.value - metric.baseline
    if metric.unit == "%":
        return words("points", number=Markdown(f"{difference:+.2f}"))
    return Markdown(f"{number_format.signed(difference)} {words.unit(metric.unit)}".rstrip())
