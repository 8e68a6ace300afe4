"""Costs of storing and running a model: size, time, memory."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sottovoce.metrics.collectors import Finish, collector
from sottovoce.metrics.kinds import MetricKind
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.report import Metric
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.samples import Run, Samples

SIZE = MetricKind(
    name="size_bytes",
    unit="bytes",
    kind="cost",
    better="lower",
    label=Text(en="size of the weights", zh="权重大小"),
    description=Text(en="Bytes of all parameters and buffers.", zh="全部参数和缓冲区的字节数。"),
    always_shown=True,
)
LATENCY = MetricKind(
    name="latency_ms",
    unit="ms",
    kind="cost",
    better="lower",
    label=Text(en="median latency", zh="延迟中位数"),
    description=Text(en="Time for one sample, the median of all.", zh="处理单条样本所需时间的中位数。"),
    always_shown=True,
    timed=True,
)
CPU_TIME = MetricKind(
    name="cpu_ms",
    unit="ms",
    kind="cost",
    better="lower",
    label=Text(en="median CPU time", zh="CPU 时间中位数"),
    description=Text(
        en="CPU time of all threads for one sample, the median of all, with its quartiles. Other work on the machine "
        "changes it less than the latency.",
        zh="处理单条样本时全部线程所用 CPU 时间的中位数及四分位数；与延迟相比，受机器上其他任务的影响较小。",
    ),
    timed=True,
)
RTF = MetricKind(
    name="rtf",
    kind="cost",
    better="lower",
    label=Text(en="real-time factor (RTF)", zh="实时率（RTF）"),
    description=Text(
        en="Seconds of computation for one second of audio, over all samples.",
        zh="处理全部样本时，每秒音频所需的计算秒数。",
    ),
    timed=True,
)
PEAK_MEMORY = MetricKind(
    name="peak_memory_bytes",
    unit="bytes",
    kind="cost",
    better="lower",
    label=Text(en="peak memory", zh="峰值内存"),
    description=Text(
        en="Largest resident memory of the process that loads and runs the model.",
        zh="加载并运行模型的进程所占用的最大常驻内存。",
    ),
    always_shown=True,
)
PEAK_GPU_MEMORY = MetricKind(
    name="peak_gpu_memory_bytes",
    unit="bytes",
    kind="cost",
    better="lower",
    label=Text(en="peak GPU memory", zh="GPU 峰值内存"),
    description=Text(
        en="Most memory that PyTorch took on all GPUs together.", zh="PyTorch 在全部 GPU 上占用的最大显存之和。"
    ),
)
EXPERT_RUNS = MetricKind(
    name="expert_runs",
    unit="a token",
    kind="cost",
    better="lower",
    label=Text(en="experts that run", zh="实际运行的专家数"),
    description=Text(
        en="Experts that run for a token in each layer, on average.", zh="每层中每个 token 平均运行的专家数。"
    ),
)


@collector
def collect_expert_runs(model: Model, samples: Samples, is_compared: bool) -> Iterator[Finish]:
    """Count the experts that run."""
    from sottovoce.runtime.expert_skipping import counting_expert_runs

    with counting_expert_runs(model.module) as counts:
        # Of several processes each has run its share of the samples.
        yield lambda run: dataclasses.replace(run, expert_runs=counts.summed().per_token)


@hookimpl(trylast=True)
def sottovoce_evaluate(model: Model, run: Run) -> Iterable[Metric]:
    """Size of the weights, latency and CPU time of the median utterance, real-time factor, peak memory.

    Of a mixture also the experts that ran for a token, in the mean of its layers.
    """
    yield SIZE.measured(model.size_bytes)
    yield LATENCY.measured(latency(run.seconds))
    if run.cpu_seconds:
        yield CPU_TIME.measured(latency(run.cpu_seconds), details=_quartiles(run.cpu_seconds))
    with_audio = [seconds for seconds, audio in zip(run.seconds, run.audio_seconds, strict=True) if audio]
    if with_audio:
        yield RTF.measured(real_time_factor(with_audio, sum(run.audio_seconds)))
    if run.peak_memory_bytes is not None:
        yield PEAK_MEMORY.measured(run.peak_memory_bytes)
    if run.peak_gpu_memory_bytes is not None:
        yield PEAK_GPU_MEMORY.measured(run.peak_gpu_memory_bytes)
    if run.expert_runs is not None:
        yield EXPERT_RUNS.measured(run.expert_runs)


def _quartiles(seconds: Sequence[float]) -> dict[str, list[float]]:
    """Return the quartiles in milliseconds of the samples' seconds."""
    if len(seconds) < 2:
        return {}
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"quartiles": [1000 * low, 1000 * high]}


def latency(seconds: Sequence[float]) -> float:
    """Return the median in milliseconds of the samples' seconds."""
    return 1000 * statistics.median(seconds)


def real_time_factor(seconds: Sequence[float], audio_seconds: float) -> float:
    """Return the seconds of computation for one second of audio."""
    return sum(seconds) / audio_seconds
