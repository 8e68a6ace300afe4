"""What a model costs to keep and to run: size, time, memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sottovoce.hookspecs import hookimpl
from sottovoce.report import Metric

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.samples import Run


@hookimpl(trylast=True)
def sottovoce_evaluate(model: Model, run: Run) -> Iterable[Metric]:
    """Size of the weights, latency of the median utterance, real-time factor, peak resident memory of the process."""
    yield Metric(name="size_bytes", value=model.size_bytes, unit="bytes")
    yield Metric(name="latency_ms", value=1000 * statistics.median(run.seconds), unit="ms")
    if audio := sum(run.audio_seconds):
        yield Metric(name="rtf", value=sum(run.seconds) / audio, unit="")
    if run.peak_memory_bytes is not None:
        yield Metric(name="peak_memory_bytes", value=run.peak_memory_bytes, unit="bytes")
