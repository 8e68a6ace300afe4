"""Check of a directory in every engine that is installed: the same answers? how fast? how much memory?"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sottovoce.architecture import Architecture
from sottovoce.checkpoint.model_class import class_name
from sottovoce.engines import Engine
from sottovoce.engines.diagnosis import diagnose
from sottovoce.engines.engine import registered_engines
from sottovoce.engines.measurement import ROUNDS, EngineRun, latency_ms, measure, spread
from sottovoce.entrypoints.check_limits import exceeded, gate_limits
from sottovoce.entrypoints.own_engine import Sottovoce
from sottovoce.entrypoints.paired_timing import OtherWork
from sottovoce.errors import SottovoceError, UsageError, reason
from sottovoce.metrics.error_rate import TASK, error_rates, languages_of
from sottovoce.plugins.host import default_host
from sottovoce.samples import Samples, SamplesArgument, as_samples
from sottovoce.system.isolation import run_isolated
from sottovoce.system.machine import describe_machine
from sottovoce.system.number_argument import as_count, as_limits
from sottovoce.system.path_argument import as_path
from sottovoce.system.progress import Progress, shown
from sottovoce.text.plain_text import one_line

SMALL = 20
"""Largest number of samples by default: a check is to take a minute or two."""


@dataclass(frozen=True, kw_only=True)
class EngineCheck:
    """Result of one engine."""

    engine: str
    version: str = ""
    state: str = "ok"
    """``ok``, ``not installed`` or ``failed``."""
    reason: str = ""
    """Reason that there are no measurements."""
    measures: Mapping[str, float | None] = field(default_factory=dict)
    """Measurements by name; times are of the worst of all rounds."""
    differing: tuple[str, ...] = ()
    """Keys of the samples whose answers are not the reference's."""
    diagnoses: tuple[str, ...] = ()
    """Sentences on what slows the engine down, or takes memory."""
    missed: tuple[str, ...] = ()
    """Limits that are not held, each with what was measured."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "engine": self.engine,
            "version": self.version,
            "state": self.state,
            **({"reason": self.reason} if self.reason else {}),
            **({"measures": dict(self.measures)} if self.measures else {}),
            "differing": list(self.differing),
            "diagnoses": list(self.diagnoses),
            "missed": list(self.missed),
        }


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of a check."""

    directory: str
    reference: str
    """Engine, or model, that the answers are compared with."""
    engines: tuple[EngineCheck, ...]
    samples: int
    limits: Mapping[str, float]
    machine: Mapping[str, Any]
    date: str

    def __repr__(self) -> str:
        """Return what identifies the check, on one line."""
        engines = ", ".join(f"{engine.engine} {engine.state}" for engine in self.engines)
        return one_line(f"<Check of {self.directory}, {'passed' if self.passed else 'not passed'}: {engines}>")

    @property
    def passed(self) -> bool:
        """If true, at least one engine ran, none failed, and every limit is held."""
        ran = [engine for engine in self.engines if engine.state == "ok"]
        failed = any(engine.state == "failed" for engine in self.engines)
        return bool(ran) and not failed and not any(engine.missed for engine in ran)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "directory": self.directory,
            "reference": self.reference,
            "passed": self.passed,
            "samples": self.samples,
            "limits": dict(self.limits),
            "engines": [engine.to_dict() for engine in self.engines],
            "machine": dict(self.machine),
            "date": self.date,
        }

    def lines(self) -> list[dict[str, Any]]:
        """Return a flat record for each engine that ran, for a file of JSON Lines that grows from check to check."""
        facts = {"date": self.date, "directory": self.directory, "processor": self.machine.get("processor")}
        return [
            {**facts, "engine": engine.engine, "version": engine.version, **engine.measures}
            for engine in self.engines
            if engine.state == "ok"
        ]


def check(
    directory: str | os.PathLike[str],
    samples: SamplesArgument,
    *,
    reference: str | os.PathLike[str] | None = None,
    engines: Sequence[str] | str | None = (),
    limits: Mapping[str, float] | None = None,
    count: int = SMALL,
    rounds: int = ROUNDS,
    progress: Progress | bool = False,
) -> Check:
    """Run a model's directory, or an exported one, in every engine that is installed, each in a process of its own.

    Args:
        directory: What is to be deployed.
        samples: Samples or their manifest; those of the check are chosen evenly.
        reference: A model that Sottovoce loads, whose answers are compared with; by default the directory itself in
            Sottovoce, or else the first engine that runs it.
        engines: Names of the engines to use; by default all that fit the directory.
        limits: Bounds such as ``{"max_latency_p95_ms": 200}``; those of the recipe's gate on error rates hold too, and
            by default no answer may differ (``max_differing``: 0).
        count: Largest number of samples.
        rounds: Number of timed rounds; the worst one counts.
        progress: True for a display on standard error; or a function, called after every sample.

    Raises:
        UsageError: No engine fits, an engine or a limit is unknown, or ``directory`` does not exist.
        SamplesError: The samples cannot be read.
    """
    path = _existing(directory)
    samples, count, rounds = as_samples(samples), as_count(count, "count"), as_count(rounds, "rounds")
    samples = samples.choose(count) if len(samples) > count else samples
    model = None if reference is None else _existing(reference, "reference")
    names = [engines] if isinstance(engines, str) else list(engines or ())
    chosen = [engine.within(model) for engine in _fitting(path, names)]
    for engine in chosen:
        if engine.is_part:
            engine.require_model(path)
    bounds = {"max_differing": 0.0, **gate_limits(path), **as_limits(limits)}
    exceeded({}, bounds)  # refuses a limit that nothing measures
    with shown(progress) as report:
        base, name = _reference(model, samples, report)
        outcomes = []
        for engine in chosen:
            outcome, run = _run(engine, path, samples, rounds, report)
            if run is not None and base is None:
                base, name = run, engine.name
            outcomes.append((outcome, run))
    subject = _Subject(samples, _family(model or path))
    in_sottovoce = next((run for _, run in outcomes if run is not None and run.engine == Sottovoce.name), None)
    return Check(
        directory=path.name,
        reference=name,
        engines=tuple(_judged(outcome, run, base, in_sottovoce, subject, bounds) for outcome, run in outcomes),
        samples=len(samples),
        limits=bounds,
        machine=describe_machine(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _existing(directory: str | os.PathLike[str], name: str = "directory") -> Path:
    path = as_path(directory, name)
    if path.is_file():
        path = path.parent
    if not path.is_dir():
        raise UsageError(f"{path}: no such directory; give a model's directory, or one that export wrote")
    return path


def _fitting(path: Path, names: Sequence[str]) -> list[Engine]:
    default_host()  # Plugins register their engines when they are imported.
    known = {engine.name: engine for engine in registered_engines()}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"there is no engine {unknown[0]!r}; known: {', '.join(sorted(known))}")
    # Sottovoce first: its answers are the reference.
    ordered = sorted(known.values(), key=lambda engine: engine.name != Sottovoce.name)
    fitting = [engine for engine in ordered if (not names or engine.name in names) and engine.fits(path)]
    if not fitting:
        none = f"none of {', '.join(names)}" if names else "no engine"
        raise UsageError(f"{path}: {none} runs what lies there; give a model's directory, or one that export wrote")
    return fitting


def _reference(path: Path | None, samples: Samples, progress: Progress) -> tuple[EngineRun | None, str]:
    if path is None:
        return None, ""
    run: EngineRun = run_isolated(measure, Sottovoce(), path, tuple(samples), 1, progress=progress)
    return run, path.name


def _run(
    engine: Engine, path: Path, samples: Samples, rounds: int, progress: Progress
) -> tuple[EngineCheck, EngineRun | None]:
    if engine.missing():
        return EngineCheck(engine=engine.name, state="not installed", reason=engine.advice()), None
    meter = OtherWork()
    try:
        run: EngineRun = run_isolated(measure, engine, path, tuple(samples), rounds, progress=progress)
    except (SottovoceError, RuntimeError) as error:
        text = reason(error) if not isinstance(error, SottovoceError) else str(error)
        return EngineCheck(engine=engine.name, version=engine.version(), state="failed", reason=text), None
    others = meter.cores()
    sentences = tuple(diagnose(run, others))
    measures = {"other_work_cores": round(others, 2)}
    return EngineCheck(engine=engine.name, version=engine.version(), diagnoses=sentences, measures=measures), run


@dataclass(frozen=True)
class _Subject:
    """Samples, and the family of the model that is checked; ``None`` where the directory does not tell."""

    samples: Samples
    family: Architecture | None


def _family(directory: Path) -> Architecture | None:
    try:
        return default_host().owner_of(class_name(directory))
    except SottovoceError:
        return None


def _judged(
    outcome: EngineCheck,
    run: EngineRun | None,
    base: EngineRun | None,
    in_sottovoce: EngineRun | None,
    subject: _Subject,
    limits: Mapping[str, float],
) -> EngineCheck:
    if run is None or base is None:
        return outcome
    pairs = zip(subject.samples, run.answers, base.answers, strict=True)
    differing = tuple(sample.key for sample, answer, expected in pairs if answer != expected)
    measures = {**outcome.measures, **_measures(run, subject), "differing": float(len(differing))}
    if in_sottovoce is not None:
        before = _errors(in_sottovoce, subject.samples, subject.family)
        after = _errors(run, subject.samples, subject.family)
        measures |= {f"{name}_increase": value - before[name] for name, value in after.items()}
    return EngineCheck(
        engine=outcome.engine,
        version=outcome.version,
        measures=measures,
        differing=differing,
        diagnoses=outcome.diagnoses,
        missed=tuple(exceeded(measures, limits)),
    )


def _measures(run: EngineRun, subject: _Subject) -> dict[str, float | None]:
    seconds, tokens = sum(run.audio_seconds), sum(run.tokens)
    slowest = max(map(sum, run.rounds))
    return {
        "load_s": run.load_seconds,
        "first_answer_s": run.first_answer_seconds,
        "latency_p50_ms": latency_ms(run, 0.5),
        "latency_p95_ms": latency_ms(run, 0.95),
        "rtf": slowest / seconds if seconds else None,
        "ms_per_token": 1000 * slowest / tokens if tokens else None,
        "spread": spread(run),
        "peak_memory_bytes": None if run.peak_memory_bytes is None else float(run.peak_memory_bytes),
        **_errors(run, subject.samples, subject.family),
    }


def _errors(run: EngineRun, samples: Samples, family: Architecture | None) -> dict[str, float]:
    """Return the error rates of an engine's texts in percent, where samples say what is said."""
    references = [sample.text for sample in samples]
    if any(text is None for text in references) or (family is not None and family.task != TASK):
        return {}
    languages = languages_of(samples, family)
    rates = error_rates([text or "" for text in references], run.texts, languages)
    return {rate.name: float(rate.value) for rate in rates if rate.value is not None}
