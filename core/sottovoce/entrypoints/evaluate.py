"""Running a model on samples and asking every plugin for its metrics."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sottovoce.checkpoint.model_card import fingerprint
from sottovoce.entrypoints import paired_timing
from sottovoce.entrypoints.load import load
from sottovoce.errors import MemoryLimitError, PluginError
from sottovoce.metrics import cost
from sottovoce.metrics.kinds import described
from sottovoce.model import Model, require_model
from sottovoce.plugins.host import Host, default_host
from sottovoce.report import EvaluationReport, Machine, Metric, SampleSet
from sottovoce.samples import Prediction, Run, Sample, Samples, check_audio, read_samples
from sottovoce.system.isolation import run_isolated
from sottovoce.system.machine import describe_machine, peak_gpu_memory, peak_memory, reset_peak_memory
from sottovoce.system.progress import Progress, silent

TIMED = 20
"""Samples that are timed by turns; accuracy is of all."""
Subject = Model | str | os.PathLike[str]


def evaluate(
    model: Model | str | os.PathLike[str],
    samples: Samples | str | os.PathLike[str],
    baseline: Model | str | os.PathLike[str] | None = None,
    *,
    host: Host | None = None,
    progress: Progress = silent,
    **given: Any,
) -> EvaluationReport:
    """Measure a model on samples, beside a baseline when one is given.

    A model given by name is loaded and run in a process of its own, so that its peak memory counts nothing else.

    Args:
        model: The model, or where it lies.
        samples: The samples or their manifest.
        baseline: What to compare with.
        host: Where to look for plugins; with one of your own everything runs in this process.
        progress: Called after every sample.
        **given: As for :func:`load`; ``weights`` are the model's, not the baseline's.

    Raises:
        SamplesError: The manifest is broken, has no references, or names audio that cannot be read.
    """
    for subject in filter(None, (model, baseline)):
        if not isinstance(subject, str | os.PathLike):
            require_model(subject, "sottovoce.evaluate")
    samples = samples if isinstance(samples, Samples) else read_samples(samples)
    check_audio(samples, progress)

    # The baseline has weights of its own.
    base_options = {name: value for name, value in given.items() if name != "weights"}

    def measure(subject: Model | str | os.PathLike[str], run: Run | None, is_baseline: bool = False) -> Measurement:
        options = base_options if is_baseline else given
        if isinstance(subject, Model) or host is not None:
            return measured(subject, samples, run, options, is_baseline, host=host, progress=progress)
        found = run_isolated(measured, os.fspath(subject), samples, run, options, is_baseline, progress=progress)
        return cast(Measurement, found)

    reference = measure(baseline, None, is_baseline=True) if baseline is not None else None
    found = measure(model, reference.run if reference else None)
    metrics = found.metrics
    if reference:
        before = {name: metric.value for name, metric in reference.metrics.items()}
        metrics = {name: replace(metric, baseline=before.get(name)) for name, metric in metrics.items()}
    machine = found.machine
    if baseline is not None:
        metrics, machine = _by_turns((baseline, base_options), (model, given), samples, host, metrics, machine)
    return EvaluationReport(
        model=found.model, architecture=found.architecture, samples=SampleSet(**samples.to_dict()), metrics=metrics,
        machine=machine, baseline=reference.model if reference else None,
        baseline_fingerprint=reference.fingerprint if reference else None, date=datetime.date.today().isoformat(),
    )  # fmt: skip


def _by_turns(
    baseline: tuple[Subject, Mapping[str, Any]], model: tuple[Subject, Mapping[str, Any]], samples: Samples,
    host: Host | None, metrics: Mapping[str, Metric], machine: Machine,
) -> tuple[dict[str, Metric], Machine]:  # fmt: skip
    """Replace the times by medians of rounds in which baseline and model took turns; say where they say nothing."""
    subset = Samples(tuple(samples)[:TIMED])
    with contextlib.ExitStack() as stack:

        def opened(subject: Subject, options: Mapping[str, Any]) -> paired_timing.Timed:
            if isinstance(subject, Model) or host is not None:
                return timed(subject, subset, options, host)
            return stack.enter_context(paired_timing.isolated(timed, os.fspath(subject), subset, options))

        first, second = opened(*baseline), opened(*model)
        meter = paired_timing.OtherWork()
        before, after = paired_timing.take_turns(first, second)
        others = meter.cores()
    ratios = [sum(found) / sum(base) for base, found in zip(before, after, strict=True)]
    audio = sum(sample.seconds for sample in subset)
    scales: dict[str, Callable[[Sequence[float]], float]] = {
        cost.LATENCY.name: cost.latency,
        **({cost.RTF.name: lambda seconds: cost.real_time_factor(seconds, audio)} if audio else {}),
    }
    replaced = dict(metrics)
    for name in replaced.keys() & scales.keys():
        base, found = (paired_timing.spread([scales[name](seconds) for seconds in side]) for side in (before, after))
        details = {"baseline": base, "model": found, "ratio": paired_timing.spread(ratios)}
        replaced[name] = replace(
            replaced[name], value=found["median"], baseline=base["median"],
            details={**replaced[name].details, "by_turns": details},
        )  # fmt: skip
    reason = paired_timing.busy(ratios, others, os.cpu_count() or 1)
    return replaced, replace(machine, other_work_cores=round(others, 2), busy=reason)


def timed(
    subject: Subject, samples: Samples, options: Mapping[str, Any], host: Host | None = None
) -> paired_timing.Timed:
    """Load a model, and return what runs it on the samples once and gives each one's seconds."""
    model = subject if isinstance(subject, Model) else load(subject, host=host or default_host(), **options)
    return lambda: run_samples(model, samples).seconds


@dataclass(frozen=True)
class Measurement:
    """One model, run and measured."""

    model: str
    architecture: str
    metrics: dict[str, Metric]
    run: Run
    machine: Machine
    fingerprint: str | None
    """By which the model's weights are known again."""


def measured(
    subject: Model | str | os.PathLike[str],
    samples: Samples,
    baseline: Run | None,
    options: Mapping[str, Any],
    is_baseline: bool = False,
    *,
    host: Host | None = None,
    progress: Progress = silent,
) -> Measurement:
    """Load, run and measure one model in this process; the baseline's own baseline is its own run.

    Raises:
        PluginError: Two plugins give one metric.
    """
    host = host or default_host()
    reset_peak_memory()
    model = subject if isinstance(subject, Model) else load(subject, host=host, **options)
    if model.stream is not None:
        raise MemoryLimitError(
            f"{model.source.name}: takes {model.size_bytes / 1e9:.1f} GB, more than there is; "
            "it can be compressed here, but not run"
        )
    run = run_samples(model, samples, progress)
    if is_baseline or baseline is not None:
        run = _with_logits(model, samples, run)
    answers = host.call(
        "sottovoce_evaluate",
        model.architecture,
        model=model,
        samples=samples,
        run=run,
        baseline=run if is_baseline else baseline,
    )
    metrics: dict[str, Metric] = {}
    for metric in (metric for answer in answers for metric in answer):
        if metric.name in metrics:
            raise PluginError(f"the metric {metric.name!r} is given by two plugins")
        metrics[metric.name] = described(metric)
    return Measurement(
        model.source.name, model.architecture.name, metrics, run, Machine(**describe_machine()),
        fingerprint(model.source.directory),
    )  # fmt: skip


def _with_logits(model: Model, samples: Samples, run: Run) -> Run:
    """The run with what the model expects at the samples' own answers; after the timing, for it counts to nothing."""
    expects = model.architecture.runner.answer_logits
    if expects is None:
        return run
    from sottovoce.metrics.divergence import compact

    found = [None if sample.too_short else expects(model, sample) for sample in samples]
    predictions = [
        prediction if logits is None else replace(prediction, logits=compact(logits))
        for prediction, logits in zip(run.predictions, found, strict=True)
    ]
    return replace(run, predictions=predictions)


def run_samples(model: Model, samples: Samples, progress: Progress = silent) -> Run:
    """Predict every sample once, timed; the first is run once before, untimed.

    Of audio that is shorter than one frame there is no hypothesis, and no model is asked for one.
    """
    import torch

    from sottovoce.runtime.expert_skipping import counting_expert_runs

    predictions, seconds = [], []
    with torch.inference_mode():
        _predict(model, samples[0])
    with torch.inference_mode(), counting_expert_runs(model.module) as runs:
        for number, sample in enumerate(samples):
            prediction, spent = _predict(model, sample)
            predictions.append(prediction)
            seconds.append(spent)
            progress(f"evaluate {model.source.name}", number + 1, len(samples))
    return Run(
        predictions=predictions, seconds=seconds, audio_seconds=[sample.seconds for sample in samples],
        peak_memory_bytes=peak_memory(), peak_gpu_memory_bytes=peak_gpu_memory(), expert_runs=runs.per_token,
    )  # fmt: skip


def _predict(model: Model, sample: Sample) -> tuple[Prediction, float]:
    """What the model says, and the seconds that it took."""
    if sample.too_short:
        return Prediction(), 0.0
    begin = time.perf_counter()
    prediction = model.architecture.runner.predict(model, sample)
    return prediction, time.perf_counter() - begin
