"""Comparison of models: variants that several recipes make of one model, or finished ones."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.claim import claim
from sottovoce.checkpoint.directory import refuse_existing
from sottovoce.checkpoint.ownership import COMPARISON_MARKER, holds_comparison
from sottovoce.entrypoints.comparison.build import Entry, Setting, build
from sottovoce.entrypoints.comparison.files import fitted, with_audio, write_comparison
from sottovoce.entrypoints.comparison.subjects import (
    ModelToCompare,
    distinct,
    locate_model,
    own_options,
    require_comparable,
)
from sottovoce.entrypoints.comparison.variants import Plan, Work, recipes_by_name, several
from sottovoce.entrypoints.evaluate import Evaluation, with_baseline
from sottovoce.entrypoints.load import model_name
from sottovoce.entrypoints.measurement import Measurement
from sottovoce.entrypoints.processes import require_one_process
from sottovoce.errors import OutputError, UsageError
from sottovoce.metrics import error_rate
from sottovoce.plugins.host import Host, default_host, needed_host
from sottovoce.recipe.recipe import RecipeArgument
from sottovoce.recipe_search.budget import Budget, parse_budget
from sottovoce.report import COMPARISON_FILE, Comparison
from sottovoce.samples import Samples, SamplesArgument, as_samples, as_samples_or_none, check_audio
from sottovoce.system.opus import require_opus
from sottovoce.system.path_argument import as_path_or_none
from sottovoce.system.progress import Progress, shown

_MARK = "Begun by sottovoce compare, which may continue or replace it. Delete this file to keep it as it is.\n"
_SEEN = "The models are measured on the samples that some were calibrated on: other samples test them better."


def compare(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    samples: SamplesArgument,
    *,
    recipes: RecipeArgument | Sequence[RecipeArgument] = (),
    calibration: SamplesArgument | None = None,
    baseline: str | os.PathLike[str] | None = None,
    max_size: str | int | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    audio: bool = False,
    host: Host | None = None,
    progress: Progress | bool = False,
    **options: Any,
) -> Comparison:
    """Compare models on the same samples, and name the one to take.

    With recipes, one model is compressed by each that fits, and all are compared with the model itself. What an earlier
    comparison has finished is not compressed again. The models take turns while they are timed.

    Args:
        models: A model to compress, with ``recipes``; or finished models. Directories, aliases or hub ids.
        samples: Samples to measure on, or their manifest.
        recipes: Presets' names, recipe files or recipes; or a single one.
        calibration: Samples for recipes that need them; by default those to measure on.
        baseline: The model to compare finished models with; by default the best of them.
        max_size: Most bytes of the weights: ``2.4MB``, or ``x0.3`` of the model's.
        output: Directory for the variants, ``comparison.json``, ``comparison.html`` and ``predictions.jsonl``; recipes
            need one.
        overwrite: If true, an earlier comparison there is replaced; variants that would be the same are kept.
        audio: If true, the page has a player for the utterances that it lists.
        host: The plugins; with a host, or plugins that were added to the default one, all runs in this process.
        progress: True for a display on standard error; or a function, called after every sample.
        **options: As for :func:`load`.

    Raises:
        UsageError: The output exists, no recipe fits, or the models cannot be compared.
        RecipeError: There is no such recipe, or it does not validate.
        SamplesError: The samples cannot be read, or have nothing to compare with.
        SottovoceError: As for :func:`load`, :func:`compress` and :func:`evaluate`.
    """
    require_one_process("a comparison")
    paths = _names(models)
    directory = as_path_or_none(output, "output")
    recipes = several(recipes)
    _check(paths, recipes, baseline, directory)
    if audio:
        require_opus()
    host = needed_host(host)
    plugins = host or default_host()
    by_name = recipes_by_name(recipes, plugins)
    budget = _budget(max_size, bool(recipes))
    with _reserved(directory, overwrite), shown(progress) as progress:
        test = as_samples(samples)
        fitting = as_samples_or_none(calibration, "calibration") or test
        subjects = _locate(paths, baseline, options, plugins)
        _check_samples(test, subjects[0], progress)
        setting = Setting(
            title=", ".join(model.name for model in subjects),
            samples=test,
            architecture=subjects[0].architecture,
            has_reference=bool(by_name) or baseline is not None,
            max_size_bytes=budget.size_bytes if budget else None,
        )
        session = _Session(Evaluation(test, host, progress), setting)
        if by_name and directory is not None:
            if calibration is None and any(recipe.needs_samples for recipe in by_name.values()):
                session.setting = replace(setting, notes=(_SEEN,))
            work = Work(subjects[0].path, subjects[0].source, options, fitting, plugins, progress)
            session.compress(subjects[0], work, work.plan(by_name, directory, budget), directory, overwrite)
        else:
            for model in subjects:
                session.measure(model)
        return session.finish(directory, audio)


@dataclass
class _Session:
    """Models that were measured so far."""

    evaluation: Evaluation
    setting: Setting
    models: list[ModelToCompare] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)

    def compress(self, model: ModelToCompare, work: Work, plan: Plan, directory: Path, overwrite: bool) -> None:
        """Measure a model, then compress and measure every variant that fits."""
        work.check(plan.variants, overwrite)
        title = f"{model.name}: {', '.join(variant.name for variant in plan.variants)}"
        self.setting = replace(self.setting, title=title, max_size_bytes=plan.limit, left_out=plan.left_out)
        # Before the variants: errors in the samples show before hours of work.
        self.measure(model)
        _begin(directory)
        for variant in plan.variants:
            work.make(variant, overwrite)
            compressed = locate_model(str(variant.directory), own_options(model.options), work.host, variant.name)
            self.commands[variant.name] = work.command(variant.recipe, variant.name)
            self.measure(compressed)

    def measure(self, model: ModelToCompare) -> None:
        """Run a model on the samples."""
        reference = self.measurements[0] if self.setting.has_reference and self.measurements else None
        is_first = self.setting.has_reference and reference is None
        run = reference.run if reference else None
        measurement = self.evaluation.measure(model.path, model.options, run, is_first)
        if reference is not None:
            measurement = _without_logits(with_baseline(measurement, reference))
        self.models.append(model)
        self.measurements.append(measurement)

    def finish(self, directory: Path | None, audio: bool) -> Comparison:
        """Time the models, and write what was measured."""
        subjects = [(model.path, model.options) for model in self.models]
        if len(subjects) > 1:
            self.measurements = self.evaluation.time_by_turns(subjects, self.measurements)
        entries = [
            Entry(model.name, measurement, model.report, self.commands.get(model.name) or model.command)
            for model, measurement in zip(self.models, self.measurements, strict=True)
        ]
        comparison, page = fitted(lambda listed: build(entries, self.setting, listed))
        if directory is not None:
            _begin(directory)
            page = with_audio(comparison, self.setting.samples) if audio else page
            write_comparison(directory, comparison, page, entries, self.setting)
        return comparison


def _without_logits(measurement: Measurement) -> Measurement:
    """Return a measurement without the logits, which were compared already: those of all models would fill memory."""
    predictions = [replace(prediction, logits=None) for prediction in measurement.run.predictions]
    return replace(measurement, run=replace(measurement.run, predictions=predictions))


def _check(paths: Sequence[str], recipes: Sequence[object], baseline: object, directory: Path | None) -> None:
    if recipes and len(paths) != 1:
        raise UsageError(
            f"recipes are for one model, and {len(paths)} are given; compare finished ones without recipes"
        )
    if recipes and baseline is not None:
        raise UsageError("with recipes the model itself is the baseline; leave the baseline out")
    if recipes and directory is None:
        raise UsageError("with recipes, give an output directory for the variants")
    if not recipes and len(paths) + (baseline is not None) < 2:
        raise UsageError("nothing to compare with: give recipes, another model, or a baseline")


def _budget(max_size: str | int | None, has_recipes: bool) -> Budget | None:
    if max_size is None:
        return None
    budget = parse_budget(max_size)
    if budget.latency_share is not None:
        raise UsageError(f"{max_size}: give a size, such as 2.4MB or x0.3")
    if budget.size_share is not None and not has_recipes:
        raise UsageError(f"{max_size}: a share of a model's size is for recipes; give bytes, such as 2.4MB")
    return budget


def _names(models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the names of one model or of several."""
    if isinstance(models, str | os.PathLike) or not isinstance(models, Iterable):
        models = [models]
    return [model_name(model, "models") for model in models]


def _locate(
    paths: Sequence[str], baseline: str | os.PathLike[str] | None, options: Mapping[str, Any], host: Host
) -> list[ModelToCompare]:
    """Find all models, the baseline first."""
    base = [] if baseline is None else [locate_model(model_name(baseline, "baseline"), options, host)]
    finished = own_options(options) if base or len(paths) > 1 else options
    models = [*base, *(locate_model(path, finished, host) for path in paths)]
    require_comparable(models)
    return distinct(models)


def _check_samples(samples: Samples, model: ModelToCompare, progress: Progress) -> None:
    if model.architecture.task == error_rate.TASK:
        error_rate.require_references(samples)
    check_audio(samples, progress)


@contextlib.contextmanager
def _reserved(directory: Path | None, overwrite: bool) -> Iterator[None]:
    """Hold the right to write a directory, which may be new, or a comparison: an unfinished one resumes.

    Raises:
        UsageError: It exists and is none, or a finished one and not to be replaced.
        OutputError: Another run holds it.
    """
    if directory is None:
        yield
        return
    is_finished = (directory / COMPARISON_FILE).exists()
    refuse_existing(directory, overwrite or (not is_finished and _is_begun(directory)), holds_comparison)
    with claim(directory):
        yield


def _is_begun(directory: Path) -> bool:
    try:
        return directory.is_dir() and holds_comparison(directory)
    except OSError:
        return False


def _begin(directory: Path) -> None:
    """Make the directory, and mark it as a comparison."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / COMPARISON_MARKER).write_text(_MARK, encoding="ascii")
    except OSError as error:
        raise OutputError(f"{directory}: could not be written ({error.strerror or error})") from error
