"""The verbs: ask the host, in order, and prove the result."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.directory import new_directory, refuse_existing
from sottovoce.checkpoint.download import fetch
from sottovoce.checkpoint.identity import class_name
from sottovoce.checkpoint.manifest import digests, verify
from sottovoce.errors import PluginError, RecipeError, ReloadError, SourceError, UsageError
from sottovoce.host import Host, default_host
from sottovoce.machine import describe_machine, peak_memory, reset_peak_memory, versions
from sottovoce.model import LoadOptions, Model, Repository, Source
from sottovoce.recipe import Recipe
from sottovoce.report import COMPRESSION_FILE, CompressionReport, Coverage, EvaluationReport, Metric, StepReport
from sottovoce.samples import Run, Samples, read_samples
from sottovoce.selection import select_linears

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.architecture import Architecture

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many units are done, and of how many."""

_OWN_OPTIONS = ("device", "dtype", "hub", "revision", "token", "cache_dir", "allow_unexpected")


def _silent(what: str, done: int, total: int) -> None:
    """No progress."""


def load(source: str | os.PathLike[str], *, host: Host | None = None, **options: Any) -> Model:
    """Load a model from a directory, a library's alias or a hub id.

    Args:
        source: A directory; an alias such as FunASR's; or ``owner/name`` on a hub.
        host: Where to look for plugins; by default the process's own.
        **options: The fields of :class:`~sottovoce.model.LoadOptions` (``device``, ``dtype``, ``hub``, ``revision``,
            ``token``, ``cache_dir``, ``allow_unexpected``); all others go to the library that builds the model.

    Raises:
        UnknownModelError: No installed plugin describes the model.
        SourceError: The files are missing or damaged, or could not be fetched.
    """
    own = {name: options.pop(name) for name in _OWN_OPTIONS if name in options}
    return _load(os.fspath(source), LoadOptions(**own, native=options), host or default_host())


def _load(name: str, options: LoadOptions, host: Host) -> Model:
    source = _find(name, options, host)
    architecture = host.owner_of(class_name(source.directory))
    report = _read_report(source.directory)
    model = host.call("sottovoce_load", architecture, source=source, options=options)
    if not isinstance(model, Model):
        raise PluginError(f"no plugin loads {architecture.name} from {source.directory}; its plugin answers no sottovoce_load")
    model.report = report
    return model


def _find(name: str, options: LoadOptions, host: Host) -> Source:
    if Path(name).is_dir():
        return Source(name=name, directory=Path(name))
    if Path(name).is_file():
        raise SourceError(f"{name}: is a file; give the directory that holds it and its configuration")
    repository = next(filter(None, (_resolve(each, name, options) for each in host.architectures.values())), None)
    if repository is None:
        if name.count("/") != 1 or name.startswith((".", "/")):
            raise SourceError(f"{name}: no such directory, and neither an alias nor an owner/name id of a hub")
        repository = Repository(id=name, hub=options.hub or "hf", revision=options.revision)
    directory, repository = fetch(repository, options)
    return Source(name=name, directory=directory, repository=repository)


def _resolve(architecture: Architecture, name: str, options: LoadOptions) -> Repository | None:
    return architecture.resolve(name, options) if architecture.resolve else None


def _read_report(directory: Path) -> CompressionReport | None:
    path = directory / COMPRESSION_FILE
    if not path.is_file():
        return None
    try:
        form = json.loads(path.read_text(encoding="utf-8"))
        files = form.pop("files")
        report = CompressionReport.from_dict(form)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path}: damaged ({error}); fetch or make the model again") from None
    verify(directory, files)
    return report


def compress(
    model: Model,
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    samples: Samples | str | os.PathLike[str] | None = None,
    *,
    host: Host | None = None,
    progress: Progress = _silent,
) -> CompressionReport:
    """Apply a recipe to a model, in place.

    Args:
        model: The model; after an error its weights may be half changed, so load it again.
        recipe: A preset's name, a recipe file, or a recipe.
        samples: Calibration samples or their manifest, for recipes that need them.
        host: Where to look for plugins.
        progress: Called before every step.

    Raises:
        RecipeError: The recipe does not validate, or no plugin applies a step; the model is unchanged.
        CoverageError: A step met less of the model than the recipe promises.
    """
    host = host or default_host()
    recipe = host.recipe(recipe)
    samples = read_samples(samples) if isinstance(samples, str | os.PathLike) else samples
    reset_peak_memory()
    begin, before = time.perf_counter(), model.size_bytes
    steps = []
    for number, step in enumerate(recipe.steps):
        progress(step.name, number, len(recipe.steps))
        report = host.call("sottovoce_compress", model.architecture, step=step, model=model, samples=samples)
        if not isinstance(report, StepReport):
            raise RecipeError(f"{recipe.title}: no installed plugin applies the step {step.name!r} to {model.architecture.name}")
        steps.append(report)
    if model.architecture.rewire is not None:
        model.architecture.rewire(model.module)
    model.report = CompressionReport(
        recipe=recipe.to_dict(),
        architecture=model.architecture.name,
        source=_provenance(model),
        steps=[*(model.report.steps if model.report else ()), *steps],
        coverage=_coverage(steps),
        size_bytes={"before": before, "after": model.size_bytes},
        seconds=round(time.perf_counter() - begin, 3),
        peak_memory_bytes=peak_memory(),
        versions=versions(),
        samples=samples.to_dict() if samples is not None else None,
    )
    progress("done", len(recipe.steps), len(recipe.steps))
    return model.report


def _provenance(model: Model) -> dict[str, Any]:
    if model.report is not None:
        return dict(model.report.source)
    repository = model.source.repository
    return {
        "name": repository.id if repository else Path(model.source.name).resolve().name,
        "hub": repository.hub if repository else None,
        "revision": repository.revision if repository else None,
    }


def _coverage(steps: Iterable[StepReport]) -> dict[str, Any]:
    """The coverage of the step that changed the most."""
    found = [step.coverage for step in steps if step.coverage is not None]
    return max(found, key=lambda each: each.ratio, default=Coverage(parameters=0, compressed_parameters=0)).to_dict()


def save(
    model: Model, directory: str | os.PathLike[str], *, overwrite: bool = False, host: Host | None = None
) -> Path:
    """Write a model in its own library's format, and prove that it loads again to the same outputs.

    Raises:
        UsageError: The directory exists.
        ReloadError: Loaded again, the outputs on the probe differ; nothing is written.
        OutputError: The file system refused; nothing is written.
    """
    host, path = host or default_host(), Path(directory)
    with new_directory(path, overwrite) as temporary:
        _write(model, "native", temporary, host)
        report = model.report or _untouched(model)
        report.output = str(path)
        form = {**report.to_dict(), "output": path.name, "files": digests(temporary)}
        (temporary / COMPRESSION_FILE).write_text(json.dumps(form, indent=1, ensure_ascii=False), encoding="utf-8")
        _prove(model, temporary, host)
    return path


def _untouched(model: Model) -> CompressionReport:
    size = model.size_bytes
    return CompressionReport(
        recipe={"steps": []}, architecture=model.architecture.name, source=_provenance(model), steps=[],
        coverage=_coverage(()), size_bytes={"before": size, "after": size}, seconds=0.0, peak_memory_bytes=None,
        versions=versions(),
    )  # fmt: skip


def _write(model: Model, format: str, directory: Path, host: Host) -> None:
    written = host.call("sottovoce_export", model.architecture, model=model, format=format, directory=directory)
    if written is None:
        raise UsageError(f"no installed plugin writes {model.architecture.name} as {format!r}")


def _prove(model: Model, directory: Path, host: Host) -> None:
    import torch

    expected = probe(model)
    device = str(next(model.module.parameters()).device)
    again = _load(str(directory), LoadOptions(device=device), host)
    found = probe(again)
    if expected.shape != found.shape or not torch.equal(expected, found):
        gap = "in shape" if expected.shape != found.shape else f"by up to {(expected - found).abs().max().item():.3g}"
        raise ReloadError(f"{model.source.name}: loaded again, the outputs on the probe differ {gap}; nothing was written")


def probe(model: Model) -> Tensor:
    """The logits of the family's probe."""
    import torch

    with torch.inference_mode():
        return model.architecture.forward(model, model.architecture.probe(model))


def export(
    model: Model | str | os.PathLike[str],
    format: str,
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    host: Host | None = None,
) -> Path:
    """Write a model in a format that another engine runs.

    Raises:
        UsageError: No plugin writes the format for this family, or the directory exists.
    """
    host, path = host or default_host(), Path(directory)
    refuse_existing(path, overwrite)
    model = model if isinstance(model, Model) else load(model, host=host)
    with new_directory(path, overwrite) as temporary:
        _write(model, format, temporary, host)
    return path


def from_pretrained(
    source: str | os.PathLike[str],
    recipe: Recipe | str | Mapping[str, Any] | None = None,
    samples: Samples | str | os.PathLike[str] | None = None,
    *,
    host: Host | None = None,
    **options: Any,
) -> Any:
    """Load a model, compress it, and return the object that its own library's code uses.

    Args:
        source: As for :func:`load`.
        recipe: What to do to it; ``None`` for a model that is compressed already, or as it is.
        samples: Calibration samples, for recipes that need them.
        host: Where to look for plugins.
        **options: As for :func:`load`; ``<companion>_recipe`` (such as ``vad_recipe``) compresses a model that works
            beside this one.
    """
    companions = {name: options.pop(name) for name in list(options) if name.endswith("_recipe")}
    model = load(source, host=host, **options)
    if unknown := [name for name in companions if name.removesuffix("_recipe") not in model.companions]:
        raise UsageError(f"{unknown[0]}: there is no such model beside {source}; there are: {', '.join(model.companions) or 'none'}")
    if recipe is not None:
        compress(model, recipe, samples, host=host)
    for name, companion_recipe in companions.items():
        compress(model.companions[name.removesuffix("_recipe")], companion_recipe, host=host)
    return model.native


def inspect(
    source: str | os.PathLike[str], recipe: Recipe | str | None = None, *, host: Host | None = None, **options: Any
) -> dict[str, Any]:
    """Say what would be compressed and what would not, with sizes. Nothing is run or written.

    With a recipe, its steps are applied to tensors without data, so the estimate is what ``compress`` would give.
    """
    host = host or default_host()
    chosen = host.recipe(recipe) if recipe is not None else None
    model = load(source, host=host, **options)
    before = model.size_bytes
    selection = select_linears(model.module, model.architecture)
    facts: dict[str, Any] = {
        "architecture": model.architecture.name,
        "class": type(model.module).__name__,
        "source": str(source),
        "parameters": selection.coverage.parameters,
        "size_bytes": before,
        "compressed": model.report.recipe if model.report else None,
    }
    targets, kept, coverage = selection.targets, selection.kept, selection.coverage
    if chosen is not None:
        model.module.to("meta")
        report = compress(model, chosen, host=host)
        facts["recipe"] = chosen.to_dict()
        facts["estimate"] = {"size_bytes": report.size_bytes["after"]}
        last = next((step for step in reversed(report.steps) if isinstance(step, StepReport)), None)
        if last is not None and last.coverage is not None:
            targets, kept, coverage = last.targets, last.kept, last.coverage
    facts["coverage"] = coverage.to_dict()
    facts["targets"] = [{"name": each.name, "parameters": each.parameters} for each in targets]
    facts["kept"] = [{"name": each.name, "parameters": each.parameters, "reason": each.reason} for each in kept]
    return facts


def evaluate(
    model: Model | str | os.PathLike[str],
    samples: Samples | str | os.PathLike[str],
    baseline: Model | str | os.PathLike[str] | None = None,
    *,
    host: Host | None = None,
    progress: Progress = _silent,
    **options: Any,
) -> EvaluationReport:
    """Measure a model on samples, beside a baseline when one is given.

    Peak memory is the process's, from loading to the last sample, when the model is given by name.

    Args:
        model: The model, or where it lies.
        samples: The samples or their manifest.
        baseline: What to compare with.
        host: Where to look for plugins.
        progress: Called after every sample.
        **options: As for :func:`load`.

    Raises:
        SamplesError: The manifest is broken, or has no references.
    """
    host = host or default_host()
    samples = samples if isinstance(samples, Samples) else read_samples(samples)
    reference = _measure(baseline, samples, None, host, progress, options) if baseline is not None else None
    name, architecture, metrics, _ = _measure(model, samples, reference[3] if reference else None, host, progress, options)
    if reference:
        before = {metric.name: metric.value for metric in reference[2].values()}
        metrics = {key: _with_baseline(metric, before.get(key)) for key, metric in metrics.items()}
    return EvaluationReport(
        model=name, architecture=architecture, samples=samples.to_dict(), metrics=metrics,
        machine=describe_machine(), baseline=reference[0] if reference else None,
    )  # fmt: skip


def _measure(
    subject: Model | str | os.PathLike[str], samples: Samples, baseline: Run | None, host: Host, progress: Progress,
    options: Mapping[str, Any],
) -> tuple[str, str, dict[str, Metric], Run]:  # fmt: skip
    reset_peak_memory()
    model = subject if isinstance(subject, Model) else load(subject, host=host, **options)
    name = model.source.name if isinstance(subject, Model) else os.fspath(subject)
    run = run_samples(model, samples, progress)
    answers = host.call(
        "sottovoce_evaluate", model.architecture, model=model, samples=samples, run=run, baseline=baseline
    )
    metrics: dict[str, Metric] = {}
    for metric in (metric for answer in reversed(answers) for metric in answer):
        if metric.name in metrics:
            raise PluginError(f"the metric {metric.name!r} is given by two plugins")
        metrics[metric.name] = metric
    return name, model.architecture.name, metrics, run


def _with_baseline(metric: Metric, value: float | None) -> Metric:
    return Metric(name=metric.name, value=metric.value, unit=metric.unit, baseline=value, details=metric.details)


def run_samples(model: Model, samples: Samples, progress: Progress = _silent) -> Run:
    """Predict every sample once, timed; the first is run once before, untimed."""
    import torch

    predictions, seconds = [], []
    with torch.inference_mode():
        model.architecture.predict(model, samples[0])
        for number, sample in enumerate(samples):
            begin = time.perf_counter()
            predictions.append(model.architecture.predict(model, sample))
            seconds.append(time.perf_counter() - begin)
            progress(f"evaluate {model.source.name}", number + 1, len(samples))
    audio = [sample.seconds for sample in samples]
    return Run(predictions=predictions, seconds=seconds, audio_seconds=audio, peak_memory_bytes=peak_memory())
