"""Evaluation of a model on samples, compared with a baseline if there is one."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sottovoce.entrypoints import paired_timing
from sottovoce.entrypoints.load import load
from sottovoce.entrypoints.measurement import Measurement, Subject, measure, run_samples
from sottovoce.entrypoints.processes import check_evaluation
from sottovoce.metrics import cost
from sottovoce.model import Model, require_model
from sottovoce.plugins.host import Host, default_host
from sottovoce.report import EvaluationReport, Metric, SampleSet
from sottovoce.samples import Run, Samples, check_audio, read_samples
from sottovoce.system import distributed
from sottovoce.system.isolation import run_isolated
from sottovoce.system.progress import Progress, shown

TIMED = 20
"""Number of samples that are timed by turns; accuracy is of all."""


def evaluate(
    model: Model | str | os.PathLike[str],
    samples: Samples | str | os.PathLike[str],
    baseline: Model | str | os.PathLike[str] | None = None,
    *,
    host: Host | None = None,
    progress: Progress | bool = False,
    **options: Any,
) -> EvaluationReport:
    """Measure a model on samples, and a baseline to compare it with if one is given.

    A model given by name is loaded and run in a process of its own, so that its peak memory counts nothing else.
    Several processes that ``torchrun`` started divide the samples, and times say nothing; all of them must call this.

    Args:
        model: The model, or its directory, alias or hub id.
        samples: The samples or their manifest.
        baseline: The model to compare with.
        host: The plugins; with a host everything runs in this process.
        progress: True for a display on standard error; or a function, called after every sample.
        **options: As for :func:`load`; ``weights`` are the model's, not the baseline's.

    Raises:
        SamplesError: The manifest is broken, has no references, or names audio that cannot be read.
        UsageError: The model is another library's object.
        PluginError: Two plugins give a metric of the same name.
        SottovoceError: Of several processes one was given another model or other samples.
    """
    for subject in filter(None, (model, baseline)):
        if not isinstance(subject, str | os.PathLike):
            require_model(subject, "sottovoce.evaluate")
    samples = samples if isinstance(samples, Samples) else read_samples(samples)
    check_evaluation({"model": model, "baseline": baseline}, samples)
    with shown(progress) as progress:
        check_audio(samples, progress)
        evaluation = _Evaluation(samples, host, progress)
        if baseline is None:
            return _report(evaluation.measure(model, options), samples)
        # The baseline has weights of its own.
        base_options = {name: value for name, value in options.items() if name != "weights"}
        reference = evaluation.measure(baseline, base_options, is_baseline=True)
        measurement = evaluation.measure(model, options, reference.run)
        values = {name: metric.value for name, metric in reference.metrics.items()}
        metrics = {name: replace(metric, baseline=values.get(name)) for name, metric in measurement.metrics.items()}
        measurement = replace(measurement, metrics=metrics)
        if distributed.world_size() == 1:
            measurement = evaluation.time_by_turns((baseline, base_options), (model, options), measurement)
        return _report(measurement, samples, reference)


def _report(measurement: Measurement, samples: Samples, reference: Measurement | None = None) -> EvaluationReport:
    return EvaluationReport(
        model=measurement.model,
        architecture=measurement.architecture,
        samples=SampleSet(**samples.to_dict()),
        metrics=measurement.metrics,
        machine=measurement.machine,
        baseline=reference.model if reference else None,
        baseline_fingerprint=reference.fingerprint if reference else None,
        date=datetime.date.today().isoformat(),
        trained_on=measurement.trained_on,
    )


@dataclass(frozen=True)
class _Evaluation:
    """Samples, plugins and progress of one evaluation."""

    samples: Samples
    host: Host | None
    progress: Progress

    def measure(
        self, subject: Subject, options: Mapping[str, Any], baseline: Run | None = None, is_baseline: bool = False
    ) -> Measurement:
        """Measure a model in this process, or in a new one if it is given by name and this is the only process."""
        if isinstance(subject, Model) or self.host is not None or distributed.world_size() > 1:
            return measure(
                subject, self.samples, baseline, options, is_baseline, host=self.host, progress=self.progress
            )
        arguments = (os.fspath(subject), self.samples, baseline, options, is_baseline)
        return cast(Measurement, run_isolated(measure, *arguments, progress=self.progress))

    def time_by_turns(
        self,
        baseline: tuple[Subject, Mapping[str, Any]],
        model: tuple[Subject, Mapping[str, Any]],
        measurement: Measurement,
    ) -> Measurement:
        """Replace a measurement's times by medians of rounds in which baseline and model take turns.

        Args:
            baseline: The baseline, with its options.
            model: The model, with its options.
            measurement: The model's measurement.

        Returns:
            The measurement with these times, and with the reason if the machine was too busy for them.
        """
        subset = Samples(tuple(self.samples)[:TIMED])
        with contextlib.ExitStack() as stack:
            first, second = (self._prepare(stack, subset, *subject) for subject in (baseline, model))
            other_work = paired_timing.OtherWork()
            before, after = paired_timing.take_turns(first, second)
            cores = other_work.cores()
        ratios = [sum(seconds) / sum(base) for base, seconds in zip(before, after, strict=True)]
        metrics = measurement.metrics | _timed_metrics(measurement.metrics, before, after, ratios, subset)
        reason = paired_timing.busy(ratios, cores, os.cpu_count() or 1)
        machine = replace(measurement.machine, other_work_cores=round(cores, 2), busy=reason)
        return replace(measurement, metrics=metrics, machine=machine)

    def _prepare(
        self, stack: contextlib.ExitStack, subset: Samples, subject: Subject, options: Mapping[str, Any]
    ) -> paired_timing.Timed:
        if isinstance(subject, Model) or self.host is not None:
            return prepare_timed(subject, subset, options, self.host)
        return stack.enter_context(paired_timing.isolated(prepare_timed, os.fspath(subject), subset, options))


def _timed_metrics(
    metrics: Mapping[str, Metric],
    before: paired_timing.Rounds,
    after: paired_timing.Rounds,
    ratios: Sequence[float],
    samples: Samples,
) -> dict[str, Metric]:
    """Return latency and real-time factor, as far as they are among ``metrics``, from the rounds of both models."""
    audio_seconds = sum(sample.seconds for sample in samples)
    scales: dict[str, Callable[[Sequence[float]], float]] = {cost.LATENCY.name: cost.latency}
    if audio_seconds:
        scales[cost.RTF.name] = lambda seconds: cost.real_time_factor(seconds, audio_seconds)
    timed: dict[str, Metric] = {}
    for name in metrics.keys() & scales.keys():
        base, model = (
            paired_timing.spread([scales[name](seconds) for seconds in rounds]) for rounds in (before, after)
        )
        by_turns = {"baseline": base, "model": model, "ratio": paired_timing.spread(ratios)}
        details = {**metrics[name].details, "by_turns": by_turns}
        timed[name] = replace(metrics[name], value=model["median"], baseline=base["median"], details=details)
    return timed


def prepare_timed(
    subject: Subject, samples: Samples, options: Mapping[str, Any], host: Host | None = None
) -> paired_timing.Timed:
    """Load a model, and return a function that runs it on the samples once and returns the seconds of each."""
    model = subject if isinstance(subject, Model) else load(subject, host=host or default_host(), **options)
    return lambda: run_samples(model, samples).seconds
