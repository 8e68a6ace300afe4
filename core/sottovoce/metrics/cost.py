"""What a model costs to keep and to run: size, time, memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.report import Metric

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.samples import Run


@hookimpl(trylast=True)
def sottovoce_evaluate(model: Model, run: Run) -> Iterable[Metric]:
    """Size of the weights, latency of the median utterance, real-time factor, peak memory of process and GPU.

    Of a mixture also the experts that ran for a token, in the mean of its layers.
    """
    yield Metric(name="size_bytes", value=model.size_bytes, unit="bytes")
    yield Metric(name="latency_ms", value=1000 * statistics.median(run.seconds), unit="ms")
    heard = [(spent, audio) for spent, audio in zip(run.seconds, run.audio_seconds, strict=True) if audio]
    if heard:
        spent, audio = (sum(each) for each in zip(*heard, strict=True))
        yield Metric(name="rtf", value=spent / audio, unit="")
    if run.peak_memory_bytes is not None:
        yield Metric(name="peak_memory_bytes", value=run.peak_memory_bytes, unit="bytes")
    if run.peak_gpu_memory_bytes is not None:
        yield Metric(name="peak_gpu_memory_bytes", value=run.peak_gpu_memory_bytes, unit="bytes")
    if run.expert_runs is not None:
        yield Metric(name="expert_runs", value=run.expert_runs, unit="a token")
