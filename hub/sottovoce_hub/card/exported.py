"""Table of the engines that ran an exported model beside PyTorch."""

from __future__ import annotations

from sottovoce.report import EngineReport, ExportReport, number_format
from sottovoce_hub.card.markdown import Markdown, table, text
from sottovoce_hub.card.translations import Translations


def engines(export: ExportReport, words: Translations) -> Markdown:
    """Return what each engine that ran gave: agreement, time of a sample, memory."""
    ran = [engine for engine in export.engines if not engine.problem]
    headers = [words("engine"), words("agreement"), words("sample_time"), words("memory")]
    return table(headers, [_row(engine, words) for engine in ran], align="llrr")


def _row(engine: EngineReport, words: Translations) -> list[object]:
    time, width, memory = engine.latency_p50_ms, engine.latency_spread, engine.peak_memory_bytes
    return [
        f"{text(engine.engine)} {text(engine.version)}",
        Markdown(words("separator").join(_agreement(engine, words))),
        "" if time is None or width is None else f"{number_format.number(time)} ms, ± {width / 2:.0%}",
        "" if memory is None else number_format.size(memory),
    ]


def _agreement(engine: EngineReport, words: Translations) -> list[Markdown]:
    metrics = [metric for metric in engine.agreement.values() if metric.value is not None]
    same = engine.same
    count = "" if same is None else words("of_count", count=same[0], total=same[1])
    return [
        words("agreement_of", metric=words.metric(metric), value=words.value(metric.value, metric.unit), count=count)
        for metric in metrics
    ]
