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
from sottovoce.entrypoints.load_options import refuse_unused
from sottovoce.entrypoints.measurement import Measurement, Subject, measure, run_samples
from sottovoce.entrypoints.processes import check_evaluation
from sottovoce.entrypoints.significance import intervals_of, tests_against
from sottovoce.metrics import cost
from sottovoce.model import Model, require_model
from sottovoce.plugins.host import Host, default_host, needed_host
from sottovoce.report import EvaluationReport, Metric, SampleSet
from sottovoce.samples import Run, Samples, SamplesArgument, as_samples, check_audio
from sottovoce.system import distributed
from sottovoce.system.isolation import run_isolated
from sottovoce.system.machine import available_memory
from sottovoce.system.process_state import kept_random_state
from sottovoce.system.progress import Progress, shown

TIMED = 20
"""Number of samples that are timed by turns; accuracy is of all."""
_MEMORY_SHARE = 0.8
"""Share of the available memory that models which take turns may have together."""


def evaluate(
    model: Model | str | os.PathLike[str],
    samples: SamplesArgument,
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
        host: The plugins; with a host, or plugins that were added to the default one, all runs in this process.
        progress: True for a display on standard error; or a function, called after every sample.
        **options: As for :func:`load`; ``weights`` are the model's, not the baseline's.

    Raises:
        SamplesError: The manifest is broken, has no references, or names audio that cannot be read.
        UsageError: The model is another library's object.
        PluginError: Two plugins give a metric of the same name.
        SottovoceError: Of several processes one was given another model or other samples.
    """
    return evaluate_with_runs(model, samples, baseline, host=host, progress=progress, **options).report


@kept_random_state()
def evaluate_with_runs(
    model: Model | str | os.PathLike[str],
    samples: SamplesArgument,
    baseline: Model | str | os.PathLike[str] | None = None,
    *,
    host: Host | None = None,
    progress: Progress | bool = False,
    **options: Any,
) -> Evaluated:
    """Do what :func:`evaluate` does, and return the predictions too; arguments and errors are the same."""
    for subject in filter(None, (model, baseline)):
        if not isinstance(subject, str | os.PathLike):
            require_model(subject, "sottovoce.evaluate")
    if isinstance(model, Model):
        named = baseline is not None and not isinstance(baseline, Model)
        refuse_unused((name for name in options if name == "weights" or not named), "sottovoce.evaluate")
    samples, host = as_samples(samples), needed_host(host)
    check_evaluation({"model": model, "baseline": baseline}, samples)
    with shown(progress) as progress:
        check_audio(samples, progress)
        evaluation = Evaluation(samples, host, progress)
        if baseline is None:
            alone = evaluation.measure(model, options)
            return Evaluated(_report(alone, samples), samples, (alone,))
        # The baseline has weights of its own.
        base_options = {name: value for name, value in options.items() if name != "weights"}
        reference = evaluation.measure(baseline, base_options, is_baseline=True)
        measurement = evaluation.measure(model, options, reference.run)
        both = [reference, with_baseline(measurement, reference)]
        if distributed.world_size() == 1:
            both = evaluation.time_by_turns([(baseline, base_options), (model, options)], both)
        return Evaluated(_report(both[1], samples, reference), samples, tuple(both))


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with the runs that it was computed from."""

    report: EvaluationReport
    samples: Samples
    measurements: tuple[Measurement, ...]
    """Of the baseline, if there is one, and of the model."""


def with_baseline(measurement: Measurement, reference: Measurement) -> Measurement:
    """Return a measurement with the values of another model beside its own."""
    values = {name: metric.value for name, metric in reference.metrics.items()}
    metrics = {name: replace(metric, baseline=values.get(name)) for name, metric in measurement.metrics.items()}
    return replace(measurement, metrics=metrics)


def _report(measurement: Measurement, samples: Samples, reference: Measurement | None = None) -> EvaluationReport:
    return EvaluationReport(
        model=measurement.model,
        architecture=measurement.architecture,
        samples=SampleSet(**samples.to_dict()),
        metrics=measurement.metrics,
        intervals=intervals_of(measurement.metrics),
        baseline_intervals=intervals_of(reference.metrics) if reference else {},
        tests=tests_against(measurement.metrics, reference.metrics) if reference else {},
        machine=measurement.machine,
        baseline=reference.model if reference else None,
        baseline_fingerprint=reference.fingerprint if reference else None,
        date=datetime.date.today().isoformat(),
        trained_on=measurement.trained_on,
        cut_off=measurement.cut_off,
        baseline_cut_off=reference.cut_off if reference else 0,
    )


@dataclass(frozen=True)
class Evaluation:
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
        self, subjects: Sequence[tuple[Subject, Mapping[str, Any]]], measurements: Sequence[Measurement]
    ) -> list[Measurement]:
        """Replace the measurements' times by medians of rounds in which the models take turns.

        All models are in memory meanwhile. Where they do not fit, each takes turns with the first one.

        Args:
            subjects: The models, with their options; at least two.
            measurements: The measurement of each.

        Returns:
            The measurements with these times, and with the reason if the machine was too busy for them.
        """
        others = range(1, len(subjects))
        groups = [[0, *others]] if _fit_together(measurements) else [[0, other] for other in others]
        timed = list(measurements)
        for group in groups:
            times, cores = self._times([subjects[number] for number in group])
            for place, number in enumerate(group):
                if number or group is groups[0]:
                    timed[number] = self._with_times(measurements[number], times[0], times[place], cores)
        if reason := next((item.machine.busy for item in timed if item.machine.busy), None):
            timed = [replace(item, machine=replace(item.machine, busy=reason)) for item in timed]
        return timed

    def _times(self, subjects: Sequence[tuple[Subject, Mapping[str, Any]]]) -> tuple[list[paired_timing.Rounds], float]:
        """Return the times of each model by round, and the number of cores that other processes used meanwhile."""
        with contextlib.ExitStack() as stack:
            models = [self._prepare(stack, self._subset, *subject) for subject in subjects]
            other_work = paired_timing.OtherWork()
            times = paired_timing.take_turns(*models, progress=self.progress)
            return times, other_work.cores()

    def _with_times(
        self, measurement: Measurement, before: paired_timing.Rounds, after: paired_timing.Rounds, cores: float
    ) -> Measurement:
        ratios = [sum(seconds) / sum(base) for base, seconds in zip(before, after, strict=True)]
        metrics = measurement.metrics | _timed_metrics(measurement.metrics, before, after, ratios, self._subset)
        reason = paired_timing.busy(ratios, cores, os.cpu_count() or 1)
        machine = replace(measurement.machine, other_work_cores=round(cores, 2), busy=reason)
        return replace(measurement, metrics=metrics, machine=machine)

    @property
    def _subset(self) -> Samples:
        return self.samples[:TIMED]

    def _prepare(
        self, stack: contextlib.ExitStack, subset: Samples, subject: Subject, options: Mapping[str, Any]
    ) -> paired_timing.Timed:
        if isinstance(subject, Model) or self.host is not None:
            return prepare_timed(subject, subset, options, self.host)
        return stack.enter_context(paired_timing.isolated(prepare_timed, os.fspath(subject), subset, options))


def _fit_together(measurements: Sequence[Measurement]) -> bool:
    """Return true if all models fit in memory at once, by what each took alone; two always do."""
    if len(measurements) == 2:
        return True
    if any(item.run.peak_gpu_memory_bytes for item in measurements):
        return False
    needed, available = sum(item.run.peak_memory_bytes or 0 for item in measurements), available_memory()
    return available is None or needed < _MEMORY_SHARE * available


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
        baseline = None if before is after else base["median"]
        timed[name] = replace(metrics[name], value=model["median"], baseline=baseline, details=details)
    return timed


def prepare_timed(
    subject: Subject, samples: Samples, options: Mapping[str, Any], host: Host | None = None
) -> paired_timing.Timed:
    """Load a model, and return a function that runs it on the samples once and returns the seconds of each."""
    model = subject if isinstance(subject, Model) else load(subject, host=host or default_host(), **options)
    return lambda: run_samples(model, samples).seconds
