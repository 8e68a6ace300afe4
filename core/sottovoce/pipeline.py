"""Compress, save, export: ask the host, in order, and prove the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.calibration import Calibration
from sottovoce.checkpoint.directory import new_directory, refuse_existing
from sottovoce.checkpoint.manifest import digests
from sottovoce.checkpoint.origin import copy_notices, describe_origin
from sottovoce.checkpoint.weights import leave_file_
from sottovoce.errors import PluginError, RecipeError, ReloadError, SamplesError, UsageError
from sottovoce.gate import Gate
from sottovoce.host import Host, default_host
from sottovoce.loading import load, load_with
from sottovoce.machine import peak_memory, reset_peak_memory, versions
from sottovoce.model import LoadOptions, Model
from sottovoce.passage import BlockStep, Passage
from sottovoce.progress import Progress, silent
from sottovoce.recipe import Recipe
from sottovoce.report import COMPRESSION_FILE, CompressionReport, Coverage, StepReport
from sottovoce.samples import Sample, Samples, read_samples
from sottovoce.selection import select_layers

if TYPE_CHECKING:
    from torch import Tensor


def compress(
    model: Model,
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    samples: Samples | str | os.PathLike[str] | None = None,
    *,
    gate_samples: Samples | str | os.PathLike[str] | None = None,
    max_memory: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    host: Host | None = None,
    progress: Progress = silent,
) -> CompressionReport:
    """Apply a recipe to a model, in place.

    Args:
        model: The model; after an error its weights may be half changed, so load it again.
        recipe: A preset's name, a recipe file, or a recipe.
        samples: Calibration samples or their manifest, for recipes that need them.
        gate_samples: What the recipe's gate is measured on; by default the calibration samples.
        max_memory: Bytes that the process may take while it calibrates: what does not fit goes to disk.
        resume: A directory for finished blocks. Work that was interrupted goes on from there; when all is done it may
            be removed.
        host: Where to look for plugins.
        progress: Called before every step.

    Raises:
        RecipeError: The recipe does not validate, or no plugin applies a step; the model is unchanged.
        CoverageError: A step met less of the model than the recipe promises.
        SamplesError: The recipe calibrates, and the samples are none, too short or of the wrong kind.
        MemoryLimitError: The work does not fit ``max_memory``.
        GateError: The recipe's gate cannot be held.
    """
    host = host or default_host()
    recipe = host.recipe(recipe)
    samples = _samples(samples)
    require_samples(recipe, samples)
    reset_peak_memory()
    begin, before = time.perf_counter(), model.size_bytes
    gate = _open_gate(recipe, model, _samples(gate_samples) or samples, host, progress)
    calibration = Calibration(
        samples=samples,
        memory_bytes=max_memory,
        directory=Path(resume) if resume is not None else None,
        key=_work_key(model, recipe, samples),
        originals=gate.originals if gate else None,
        progress=progress,
    )
    try:
        steps, held = _apply(recipe, model, calibration, host), None
        if gate is not None:
            steps, held = gate.hold_(model, steps)
    finally:
        if gate is not None:
            gate.originals.close()
    if model.stream is None:
        leave_file_(model.module)
    if model.stream is None and model.architecture.rewire is not None:
        model.architecture.rewire(model.module)
    model.report = CompressionReport(
        recipe=recipe.to_dict(),
        recipe_name=Path(recipe.title).name if recipe.title else None,
        architecture=model.architecture.name,
        source=_provenance(model),
        steps=[*(model.report.steps if model.report else ()), *steps],
        coverage=_coverage(steps),
        size_bytes={"before": before, "after": model.size_bytes},
        seconds=round(time.perf_counter() - begin, 3),
        peak_memory_bytes=peak_memory(),
        versions=versions(),
        samples=samples.to_dict() if samples is not None else None,
        gate=held,
    )
    progress("done", len(recipe.steps), len(recipe.steps))
    return model.report


def require_samples(recipe: Recipe, samples: Samples | None) -> None:
    """Look whether a recipe can be applied with these samples.

    Raises:
        SamplesError: It calibrates, and there are none.
    """
    if samples is None and recipe.needs_samples:
        raise SamplesError(f"the recipe {recipe.title or 'given'} calibrates on real samples: give them (--data)")


def _samples(samples: Samples | str | os.PathLike[str] | None) -> Samples | None:
    return read_samples(samples) if isinstance(samples, str | os.PathLike) else samples


def _open_gate(recipe: Recipe, model: Model, samples: Samples | None, host: Host, progress: Progress) -> Gate | None:
    if not recipe.gate:
        return None
    if samples is None:
        raise SamplesError("the recipe's gate is measured on samples; give them (--data or --gate-data)")
    return Gate.open(recipe.gate, model, samples, host, progress)


def _work_key(model: Model, recipe: Recipe, samples: Samples | None) -> str:
    """What finished blocks belong to: the model's files, the recipe and the samples."""
    directory = model.source.directory
    files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in directory.glob("*"))
    dtype = str(next(model.module.parameters()).dtype)
    facts = [str(directory.resolve()), files, dtype, recipe.to_dict(), samples.identity if samples else None]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _apply(recipe: Recipe, model: Model, calibration: Calibration, host: Host) -> list[StepReport]:
    """Apply the steps in order; consecutive ones that work block by block go through the model together."""
    reports: list[StepReport] = []
    together: list[BlockStep] = []
    first = 0

    def go() -> None:
        if together:
            reports.extend(Passage(model, together, calibration.step(first)).run_())
            together.clear()

    for number, step in enumerate(recipe.steps):
        calibration.progress(step.name, number, len(recipe.steps))
        if not step.by_block:
            go()
        first = first if together else number
        answer = host.call(
            "sottovoce_compress", model.architecture, step=step, model=model, samples=calibration.samples,
            calibration=calibration.step(number),
        )  # fmt: skip
        if isinstance(answer, StepReport) and not together:
            reports.append(answer)
        elif isinstance(answer, BlockStep):
            together.append(answer)
        elif answer is None:
            raise RecipeError(f"no installed plugin applies the step {step.name!r} to {model.architecture.name}")
        else:
            raise PluginError(f"the step {step.name!r} works by block, but a plugin answered {type(answer).__name__}")
    go()
    return reports


def _provenance(model: Model) -> dict[str, Any]:
    if model.report is not None:
        return dict(model.report.source)
    repository = model.source.repository
    return {
        "name": repository.id if repository else Path(model.source.name).resolve().name,
        "hub": repository.hub if repository else None,
        "revision": repository.revision if repository else None,
        **describe_origin(model.source.directory),
    }


def _coverage(steps: Iterable[StepReport]) -> dict[str, Any]:
    """The coverage of the step that changed the most."""
    found = [step.coverage for step in steps if step.coverage is not None]
    return max(found, key=lambda each: each.ratio, default=Coverage(parameters=0, compressed_parameters=0)).to_dict()


def save(model: Model, directory: str | os.PathLike[str], *, overwrite: bool = False, host: Host | None = None) -> Path:
    """Write a model in its own library's format, and prove that it loads again to the same outputs.

    Raises:
        UsageError: The directory exists, or holds the model.
        ReloadError: Loaded again, the outputs on the probe differ; nothing is written.
        OutputError: The file system refused; nothing is written.
    """
    host, path = host or default_host(), Path(directory)
    _refuse_source(model, path)
    with new_directory(path, overwrite) as temporary:
        _write(model, "native", temporary, host)
        for name, write in model.attachments.items():
            write(temporary / name)
        copy_notices(model.source.directory, temporary)
        report = model.report or _untouched(model)
        report.output = str(path)
        report.card = dataclasses.asdict(model.architecture.card)
        form = {**report.to_dict(), "output": path.name, "files": digests(temporary)}
        (temporary / COMPRESSION_FILE).write_text(json.dumps(form, indent=1, ensure_ascii=False), encoding="utf-8")
        _prove(model, temporary, host)
    return path


def _refuse_source(model: Model, path: Path) -> None:
    if path.resolve() in model.source.directory.resolve().parents:
        raise UsageError(f"{path}: holds the model {model.source.directory}, and is not replaced; give another output")


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

    stream = model.stream
    device = str(next(model.module.parameters()).device) if stream is None else "cpu"
    again = load_with(str(directory), LoadOptions(device=device, stream=stream is not None), host)
    if stream is None:
        expected, found = probe(model), probe(again)
    else:
        sample = stream.first[0] if stream.first else model.architecture.probe(model)
        expected, found = stream.first[1] if stream.first else _streamed(model, sample), _streamed(again, sample)
    if expected.shape != found.shape or not torch.equal(expected, found):
        gap = "in shape" if expected.shape != found.shape else f"by up to {(expected - found).abs().max().item():.3g}"
        raise ReloadError(
            f"{model.source.name}: loaded again, the outputs on the probe differ {gap}; nothing was written"
        )


def _streamed(model: Model, sample: Sample) -> Tensor:
    """What a model gives for a sample, with one block in memory at a time."""
    Passage(model, (), Calibration(samples=Samples((sample,)))).run_()
    assert model.stream is not None
    assert model.stream.first is not None
    return model.stream.first[1]


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
    _refuse_source(model, path)
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
        raise UsageError(
            f"{unknown[0]}: there is no such model beside {source}; there are: {', '.join(model.companions) or 'none'}"
        )
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
    # Nothing is run, so the weights can stay where they are.
    model = load(source, host=host, **{"stream": True, **options})
    facts: dict[str, Any] = {
        "architecture": model.architecture.name,
        "class": type(model.module).__name__,
        "source": str(source),
        "size_bytes": model.size_bytes,
    }
    if chosen is None and model.report is not None and model.report.steps:
        return facts | _found(model.report.to_dict()["steps"][-1]) | {"recipe": dict(model.report.recipe)}
    if chosen is None:
        selection = select_layers(model.module, model.architecture)
        plan = StepReport(step={}, targets=selection.targets, kept=selection.kept, coverage=selection.coverage)
        return facts | _found(plan.to_dict())
    model.module.to("meta")
    model.stream = None
    last = _apply(chosen, model, Calibration(), host)[-1]
    return facts | _found(last.to_dict()) | {"recipe": chosen.to_dict(), "estimate": {"size_bytes": model.size_bytes}}


def _found(step: Mapping[str, Any]) -> dict[str, Any]:
    coverage = step["coverage"] or Coverage(parameters=0, compressed_parameters=0).to_dict()
    return {
        "parameters": coverage["parameters"],
        "coverage": coverage,
        "targets": list(step["targets"]),
        "kept": list(step["kept"]),
    }
