"""Measurement of one model: a run on samples, and the metrics that plugins compute of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sottovoce.checkpoint.model_card import fingerprint
from sottovoce.entrypoints.load import load
from sottovoce.errors import MemoryLimitError, PluginError
from sottovoce.metrics.collectors import collecting
from sottovoce.metrics.kinds import described
from sottovoce.model import Model, in_evaluation_mode
from sottovoce.plugins.host import Host, default_host
from sottovoce.report import Machine, Metric
from sottovoce.report.problems import problem_of
from sottovoce.samples import Prediction, Run, Sample, Samples
from sottovoce.system import distributed
from sottovoce.system.machine import describe_machine, peak_gpu_memory, peak_memory, reset_peak_memory
from sottovoce.system.progress import Progress, silent
from sottovoce.text.plain_text import one_line

Subject = Model | str | os.PathLike[str]
"""A model, or the directory, alias or hub id that it is loaded from."""


@dataclass(frozen=True)
class Measurement:
    """Metrics of one model, with the run that they were computed from."""

    model: str
    architecture: str
    metrics: dict[str, Metric]
    run: Run
    machine: Machine
    fingerprint: str | None
    """Digest that identifies the model's weights."""
    trained_on: int = 0
    """Number of the samples that the model was trained on, as far as is known."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the weights by part of the model."""

    @property
    def cut_off(self) -> int:
        """Number of the outputs that end at the model's limit of tokens."""
        return sum(prediction.cut_off for prediction in self.run.predictions)


def measure(
    subject: Subject,
    samples: Samples,
    baseline: Run | None,
    options: Mapping[str, Any],
    is_baseline: bool = False,
    *,
    host: Host | None = None,
    progress: Progress = silent,
) -> Measurement:
    """Load, run and measure one model in this process.

    Several processes divide the samples, and the main one computes the metrics of all.

    Args:
        subject: The model.
        samples: The samples to run it on.
        baseline: The baseline's run on the same samples, to compare with.
        options: Options of :func:`~sottovoce.load`.
        is_baseline: If true, the model is compared with its own run.
        host: The plugins; by default the process's own.
        progress: Called after every sample.

    Raises:
        PluginError: Two plugins give a metric of the same name.
        MemoryLimitError: The model does not fit in memory.
    """
    host = host or default_host()
    reset_peak_memory()
    model = subject if isinstance(subject, Model) else load(subject, host=host, **options)
    if model.stream is not None:
        raise MemoryLimitError(
            f"{model.source.name}: takes {model.size_bytes / 1e9:.1f} GB, more than there is; "
            "it can be compressed here, but not run"
        )
    run = _run_together(model, samples, progress, is_baseline or baseline is not None)
    metrics = metrics_of(host, model, samples, run, run if is_baseline else baseline)
    return Measurement(
        model=model.source.name,
        architecture=model.architecture.name,
        metrics=metrics,
        run=run,
        machine=_describe_machine(),
        fingerprint=fingerprint(model.source.directory),
        trained_on=len(model.trained_samples.shared(samples)) if model.trained_samples is not None else 0,
        parts=model.bytes_by_part,
    )


def metrics_of(host: Host, model: Model, samples: Samples, run: Run, baseline: Run | None) -> dict[str, Metric]:
    """Return the metrics of a run by name; of several processes the main one computes them.

    Raises:
        PluginError: Two plugins give a metric of the same name.
    """
    metrics: dict[str, Metric] = {}
    if distributed.is_main():
        results = host.call(
            "sottovoce_evaluate", model.architecture, model=model, samples=samples, run=run, baseline=baseline
        )
        metrics = by_name(results)
    return distributed.broadcast(metrics)


def _describe_machine() -> Machine:
    count = distributed.world_size()
    if count == 1:
        return Machine(**describe_machine())
    busy = f"{count} processes shared the work, so the times say nothing of one"
    return Machine(**describe_machine(), processes=count, busy=busy)


def _run_together(model: Model, samples: Samples, progress: Progress, is_compared: bool) -> Run:
    """Run a model on samples; of several processes each runs a share, and the main one gets the run on all."""
    if distributed.world_size() == 1:
        return run_samples(model, samples, progress, is_compared=is_compared)
    share = Samples(tuple(distributed.share(samples)))
    run_on_share = run_samples(model, share, progress, is_compared=is_compared)
    runs = distributed.gather_to_main(run_on_share)
    if runs is None:
        return run_on_share
    return replace(
        run_on_share,
        predictions=distributed.interleaved([run.predictions for run in runs]),
        seconds=distributed.interleaved([run.seconds for run in runs]),
        cpu_seconds=distributed.interleaved([run.cpu_seconds for run in runs]),
        audio_seconds=distributed.interleaved([run.audio_seconds for run in runs]),
        peak_memory_bytes=_largest(run.peak_memory_bytes for run in runs),
        peak_gpu_memory_bytes=_largest(run.peak_gpu_memory_bytes for run in runs),
    )


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def by_name(results: Iterable[Iterable[Metric]]) -> dict[str, Metric]:
    """Return the metrics of all plugins by their names.

    Raises:
        PluginError: Two have one name, or a plugin gives something else than metrics, or a metric without a number.
    """
    named: dict[str, Metric] = {}
    for metric in _flat(results):
        if problem := problem_of(metric):
            raise PluginError(f"the metric {metric.name!r} that a plugin gave cannot be kept: {problem}")
        if metric.name in named:
            raise PluginError(f"the metric {metric.name!r} is given by two plugins")
        named[metric.name] = described(metric)
    return named


def _flat(results: Iterable[Iterable[Metric]]) -> Iterator[Metric]:
    for result in results:
        metrics = [result] if isinstance(result, Metric) or not isinstance(result, Iterable) else list(result)
        if other := [metric for metric in metrics if not isinstance(metric, Metric)]:
            raise PluginError(
                f"a plugin's sottovoce_evaluate gave {one_line(repr(other[0]), 80)}, which is not a Metric; "
                "see sottovoce plugins"
            )
        yield from metrics


def run_samples(model: Model, samples: Samples, progress: Progress = silent, *, is_compared: bool = False) -> Run:
    """Predict every sample once, timed; the first is run once before, untimed.

    Audio that is shorter than one frame has no hypothesis, and the model is not run on it.

    Args:
        model: The model.
        samples: The samples.
        progress: Called after every sample.
        is_compared: If true, the run is compared with another, or is the one that others are compared with.
    """
    import torch

    predictions, seconds, cpu_seconds = [], [], []
    with torch.inference_mode(), in_evaluation_mode(model):
        for sample in samples[:1]:
            _predict(model, sample)
    with torch.inference_mode(), in_evaluation_mode(model), collecting(model, samples, is_compared) as finishes:
        for number, sample in enumerate(samples):
            prediction, spent, computed = _predict(model, sample)
            predictions.append(prediction)
            seconds.append(spent)
            cpu_seconds.append(computed)
            progress(f"evaluate {model.source.name}", number + 1, len(samples))
    run = Run(
        predictions=predictions,
        seconds=seconds,
        audio_seconds=[sample.seconds for sample in samples],
        cpu_seconds=cpu_seconds,
        peak_memory_bytes=peak_memory(),
        peak_gpu_memory_bytes=peak_gpu_memory(),
    )
    for finish in finishes:
        run = finish(run)
    return run


def _predict(model: Model, sample: Sample) -> tuple[Prediction, float, float]:
    """Return the model's prediction, the seconds that it took, and the CPU time of all threads in seconds."""
    if sample.too_short:
        return Prediction(), 0.0, 0.0
    begin, computed = time.perf_counter(), time.process_time()
    prediction = model.architecture.runner.predict(model, sample)
    return prediction, time.perf_counter() - begin, time.process_time() - computed
