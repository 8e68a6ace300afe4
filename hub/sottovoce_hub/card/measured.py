"""Tables of what was measured: the base model, this one, and its variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sottovoce_hub.card import figures
from sottovoce_hub.card.facts import Evaluation, Machine, Measure, Samples
from sottovoce_hub.card.markdown import Markdown, code, link, table, text
from sottovoce_hub.card.report import Report
from sottovoce_hub.card.scores import (
    AGAINST_BASE,
    COSTS,
    Score,
    arrow,
    is_quality,
    main_score,
    same_machine,
    same_score,
    speed,
)
from sottovoce_hub.card.variant import Variant
from sottovoce_hub.card.web import page
from sottovoce_hub.card.wording import Wording

ALWAYS = ("size_bytes", "latency_ms", "peak_memory_bytes")
"""What a reader looks for: where it was not measured, the table says so."""


def sizes(report: Report, wording: Wording) -> Markdown:
    """The one thing that is known of a model that was never evaluated."""
    return _comparison([("size_bytes", _size(report))], wording)


def comparison(report: Report, evaluation: Evaluation, wording: Wording) -> Markdown:
    """The base model beside this one, as one evaluation has them."""
    metrics = {"size_bytes": _size(report)} | dict(evaluation.metrics)
    if metrics["size_bytes"].baseline is None:
        metrics["size_bytes"] = _size(report)
    score = main_score(report)
    quality = sorted(filter(is_quality, metrics), key=lambda name: score is None or name != score.metric)
    costs = [name for name in COSTS if name in metrics or name in ALWAYS]
    nothing = Measure()
    return _comparison([(name, metrics.get(name, nothing)) for name in (*quality, *costs)], wording)


def data(samples: Samples, wording: Wording) -> Markdown:
    """Name, count, length and digest of samples."""
    named = code(samples.name) if samples.name else wording("unnamed_samples")
    seconds = wording("data_seconds", seconds=figures.number(samples.audio_seconds)) if samples.audio_seconds else ""
    digest = wording("data_digest", digest=code(samples.sha256)) if samples.sha256 else ""
    return wording(
        "data", name=named, count=figures.count(samples.count), seconds=Markdown(seconds), digest=Markdown(digest)
    )


def hardware(machine: Machine, wording: Wording) -> Markdown:
    """Hardware, threads and versions."""
    known = {
        "processor": machine.processor,
        "cores": machine.cores,
        "threads": machine.threads,
        "system": machine.system,
    }
    parts = [wording(f"machine_{name}", value=value) for name, value in known.items() if value is not None]
    return Markdown(wording("separator").join([*parts, *versions(machine.versions)]))


def versions(known: Mapping[str, str]) -> list[Markdown]:
    """Libraries with their versions."""
    return [Markdown(f"{text(name)} {text(version)}") for name, version in known.items()]


def variants(report: Report, this: str, others: Sequence[Variant], hub: str, wording: Wording) -> Markdown:
    """All published sizes of a model side by side.

    Quality is only shown of those that were measured on the same samples, and speed as a factor of what the base model
    took beside it in the same run, on the same machine: a machine is not equally fast every day.
    """
    score = main_score(report)
    fast = speed(score.evaluation) if score else None
    headers = [wording("variant"), wording("size")]
    if score:
        headers.append(_heading(score.metric, wording))
    if fast:
        headers.append(wording("speed_factor", metric=_heading(fast, wording)))
    rows = [[Markdown(f"**{text(this)}**"), *_row(report, score, fast, wording)]]
    for other in others:
        named = link(other.name, page(other.repository, hub, other.branch))
        rows.append([named, *_row(other.facts, score, fast, wording)])
    if report.base_bytes is not None:
        rows.insert(0, [wording("base_model"), Markdown(figures.size(report.base_bytes)), *_base(score, fast, wording)])
    return table(headers, rows)


def _base(score: Score | None, fast: str | None, wording: Wording) -> Iterator[Markdown]:
    if score:
        measure = score.measure
        against = score.metric in AGAINST_BASE
        yield wording("reference") if against else wording.value(measure.baseline, measure.unit)
    if fast:
        yield wording("reference")


def _row(report: Report, score: Score | None, fast: str | None, wording: Wording) -> Iterator[Markdown]:
    yield Markdown(figures.size(report.size_bytes.after))
    if score is None:
        return
    mine = same_score(report, score)
    yield wording.value(mine.measure.value, mine.measure.unit) if mine else wording("not_measured")
    if fast is not None:
        there = mine is not None and same_machine(mine.evaluation, score.evaluation)
        measure = mine.evaluation.metrics.get(fast) if mine is not None and there else None
        if measure is None or measure.value is None or not measure.baseline:
            yield wording("not_measured")
        else:
            yield Markdown(figures.factor(measure.value, measure.baseline))


def headline(report: Report, wording: Wording) -> tuple[Markdown, Markdown] | None:
    """The figure that speaks for the model, and what it is called; ``None`` where no quality was measured."""
    score = main_score(report)
    if score is None:
        return None
    measure, samples = score.measure, score.evaluation.samples
    value = wording.value(measure.value, measure.unit)
    if measure.baseline is not None:
        value = Markdown(f"{wording.value(measure.baseline, measure.unit)} → {value}")
    return wording.metric(score.metric), wording("on_samples", value=value, count=figures.count(samples.count))


def _size(report: Report) -> Measure:
    return Measure(value=report.size_bytes.after, unit="bytes", baseline=report.base_bytes)


def _comparison(rows: Sequence[tuple[str, Measure]], wording: Wording) -> Markdown:
    headers = [wording("figure"), wording("base_model"), wording("this_model"), wording("change")]
    return table(
        headers,
        [
            [
                _heading(name, wording),
                wording("reference") if name in AGAINST_BASE else wording.value(measure.baseline, measure.unit),
                wording.value(measure.value, measure.unit),
                _change(name, measure, wording),
            ]
            for name, measure in rows
        ],
    )


def _heading(metric: str, wording: Wording) -> Markdown:
    return Markdown(f"{wording.metric(metric)} {arrow(metric)}".rstrip())


def _change(name: str, measure: Measure, wording: Wording) -> Markdown:
    if measure.value is None or measure.baseline is None:
        return Markdown("")
    by_turns = measure.details.by_turns
    if by_turns is not None and by_turns.ratio.median is not None and len(by_turns.ratio.quartiles) == 2:
        low, high = (figures.number(float(quartile)) for quartile in by_turns.ratio.quartiles)
        return Markdown(f"{figures.factor(float(by_turns.ratio.median), 1.0)} ({low}-{high})")
    if name in COSTS:
        return Markdown(figures.factor(measure.value, measure.baseline))
    difference = measure.value - measure.baseline
    signed = figures.number(difference) if difference < 0 else f"+{figures.number(difference)}"
    if measure.unit == "%":
        return wording("points", number=Markdown(signed))
    return Markdown(f"{signed} {wording.unit(measure.unit)}".rstrip())
