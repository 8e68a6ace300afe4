"""Export of a model in the format of another engine, with a run of the result in that engine beside PyTorch."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from sottovoce.checkpoint.directory import new_directory, reserved
from sottovoce.checkpoint.finite import require_finite
from sottovoce.checkpoint.manifest import digests
from sottovoce.checkpoint.ownership import mark
from sottovoce.checkpoint.report_file import report_of
from sottovoce.engines.diagnosis import disturbances
from sottovoce.engines.engine import Engine, registered_engines
from sottovoce.engines.measurement import ROUNDS, EngineRun, latency_ms, measure, spread
from sottovoce.entrypoints.load import load
from sottovoce.entrypoints.measurement import metrics_of, run_samples
from sottovoce.entrypoints.own_engine import Sottovoce
from sottovoce.entrypoints.paired_timing import OtherWork
from sottovoce.entrypoints.save import refuse_source, write_format, write_report
from sottovoce.errors import MemoryLimitError, SottovoceError, UsageError, reason
from sottovoce.formats.format import formats_for
from sottovoce.metrics.agreement import TOKEN_AGREEMENT
from sottovoce.model import Model, in_evaluation_mode, require_model
from sottovoce.plugins.host import Host, default_host
from sottovoce.report import EngineReport, ExportReport, Machine, Metric, SampleSet
from sottovoce.samples import Run, Samples, SamplesArgument, as_samples_or_none
from sottovoce.system.isolation import run_isolated
from sottovoce.system.machine import describe_machine
from sottovoce.system.number_argument import as_count
from sottovoce.system.path_argument import as_path
from sottovoce.system.process_state import kept_random_state
from sottovoce.system.progress import Progress, shown

COUNT = 16
"""Largest number of samples by default: an export is to take seconds longer, not minutes."""


@kept_random_state()
def export(
    model: Model | str | os.PathLike[str],
    format: str,
    directory: str | os.PathLike[str],
    *,
    samples: SamplesArgument | None = None,
    count: int = COUNT,
    overwrite: bool = False,
    host: Host | None = None,
    progress: Progress | bool = False,
) -> Path:
    """Write a model in a format that another engine runs, and check the files by running them in that engine.

    With samples, every engine that is installed and runs the files answers them, each in a process of its own. How many
    answers are those of the model in PyTorch, how long a sample takes, and the memory lie in the ``compression.json``
    that is written beside the files. Times of a busy machine are left out.

    Args:
        model: The model, or its directory, alias or hub id.
        format: Name of the format, such as ``onnx``; ``sottovoce export --help`` lists them.
        directory: A new directory.
        samples: Samples or their manifest; without them the files run on a made-up input alone.
        count: Largest number of samples; of more, the same ones are chosen every time.
        overwrite: If true, an existing directory that Sottovoce wrote is replaced.
        host: The plugins; by default the process's own.
        progress: True for a display on standard error; or a function, called after every sample.

    Returns:
        The directory.

    Raises:
        UsageError: No plugin writes the format for this family, or the directory exists.
        OutputError: The engine is not installed, or does not run the files; nothing is written.
        SamplesError: The samples cannot be read; nothing is written.
    """
    host, path, samples = host or default_host(), as_path(directory, "directory"), as_samples_or_none(samples)
    count = as_count(count, "count")
    if not isinstance(format, str):
        raise UsageError(f"format: give the name of a format, not {type(format).__name__}")
    with reserved(path, overwrite):
        if isinstance(model, str | os.PathLike):
            model = load(model, host=host)
        model = require_model(model, "sottovoce.export")
        refuse_source(model, path)
        require_finite(model.module)
        with new_directory(path, overwrite) as temporary, shown(progress) as report, in_evaluation_mode(model):
            write_format(model, format, temporary, host)
            files = digests(temporary)
            chosen = samples.choose(count) if samples is not None and len(samples) > count else samples
            exported = ExportReport(
                format=format,
                files={name: (temporary / name).stat().st_size for name in files},
                samples=SampleSet(**chosen.to_dict()) if chosen is not None else None,
                unchecked=_unchecked(model, format),
                engines=() if chosen is None else _run_engines(host, model, temporary, chosen, report),
                machine=Machine(**describe_machine()) if chosen is not None else None,
                date=datetime.date.today().isoformat(),
            )
            write_report(model, path, temporary, files, exported)
            mark(temporary)
    return path


def _unchecked(model: Model, name: str) -> str:
    """Return why the files were only read; empty for the model's own format, which is loaded again."""
    format = formats_for(model.architecture).get(name)
    return "" if format is None else format.unchecked()


def _run_engines(
    host: Host, model: Model, directory: Path, samples: Samples, progress: Progress
) -> tuple[EngineReport, ...]:
    """Run the files in every engine that they are for, and compare its answers with those of the model in memory."""
    if model.stream is not None:
        raise MemoryLimitError(
            f"{model.source.name}: does not fit in memory, so nothing can be compared; leave out --data"
        )
    reference = run_samples(model, samples, progress, is_compared=True)
    engines = [engine for engine in registered_engines() if engine.name != Sottovoce.name and engine.fits(directory)]
    stored = _stored_in(model)
    return tuple(
        _run(host, model, engine.within(stored), directory, samples, reference, progress) for engine in engines
    )


def _stored_in(model: Model) -> Path | None:
    """Return the directory that holds a model as it is in memory; ``None`` where it was changed since."""
    stored, now = (
        None if report is None else report.to_dict()["steps"]
        for report in (report_of(model.source.directory), model.report)
    )
    return model.source.directory if stored == now else None


def _run(
    host: Host, model: Model, engine: Engine, directory: Path, samples: Samples, reference: Run, progress: Progress
) -> EngineReport:
    if engine.missing():
        return EngineReport(engine=engine.name, problem=f"not installed ({engine.advice()})")
    if engine.is_part and engine.model is None:
        problem = "runs a part of a model, whose directory it needs: save the model, and export that"
        return EngineReport(engine=engine.name, version=engine.version(), problem=problem)
    meter = OtherWork()
    try:
        run: EngineRun = run_isolated(measure, engine, directory, tuple(samples), ROUNDS, progress=progress)
    except (SottovoceError, RuntimeError) as error:
        text = str(error) if isinstance(error, SottovoceError) else reason(error)
        return EngineReport(engine=engine.name, version=engine.version(), problem=f"failed ({text})")
    untimed = "; ".join(disturbances(run, meter.cores()))
    answers = Run(
        predictions=run.predictions,
        seconds=[0.0] * len(samples),
        audio_seconds=[sample.seconds for sample in samples],
    )
    agreement = agreement_of(metrics_of(host, model, samples, answers, reference))
    return EngineReport(
        engine=engine.name,
        version=engine.version(),
        agreement={agreement.name: agreement} if agreement is not None else {},
        latency_p50_ms=None if untimed else latency_ms(run, 0.5),
        latency_p95_ms=None if untimed else latency_ms(run, 0.95),
        latency_spread=None if untimed else spread(run),
        untimed=untimed,
        load_seconds=None if untimed else run.load_seconds,
        peak_memory_bytes=run.peak_memory_bytes,
    )


def agreement_of(metrics: dict[str, Metric]) -> Metric | None:
    """Return the metric that says how many answers are the reference's: the family's, or else that of tokens."""
    comparing = [metric for metric in metrics.values() if "identical" in metric.details and metric.value is not None]
    of_family = (metric for metric in comparing if metric.name != TOKEN_AGREEMENT.name)
    return next(of_family, None) or next(iter(comparing), None)
