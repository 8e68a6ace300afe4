"""Compress: ask the host for every step, in order."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.calibration import Calibration
from sottovoce.calibration.runner import SequentialRunner
from sottovoce.checkpoint.finite import require_finite
from sottovoce.checkpoint.weights import leave_file_
from sottovoce.entrypoints.accuracy_gate import Gate
from sottovoce.entrypoints.describe import describe_step
from sottovoce.entrypoints.load import load
from sottovoce.entrypoints.save import provenance, widest_coverage
from sottovoce.errors import PluginError, RecipeError, SamplesError, UsageError
from sottovoce.model import Model, require_model
from sottovoce.plugins.host import Host, default_host
from sottovoce.recipe.recipe import Recipe
from sottovoce.report import CompressionReport, ParameterBits, SampleSet, Sizes, StepReport
from sottovoce.samples import Samples, read_samples
from sottovoce.system.machine import peak_gpu_memory, peak_memory, reset_peak_memory, versions
from sottovoce.system.progress import Progress, silent


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
        UsageError: The model is another library's object.
        RecipeError: The recipe does not validate, or no plugin applies a step; the model is unchanged.
        CoverageError: A step met less of the model than the recipe promises.
        SamplesError: The recipe calibrates, and the samples are none, too short or of the wrong kind.
        MemoryLimitError: The work does not fit ``max_memory``.
        GateError: The recipe's gate cannot be held.
        NotFiniteError: A weight is infinite or not a number; the model is unchanged.
    """
    model, host = require_model(model, "sottovoce.compress"), host or default_host()
    recipe = host.recipe(recipe)
    samples = _samples(samples)
    require_samples(recipe, samples)
    require_finite(model.module)
    reset_peak_memory()
    begin, before, bits_before = time.perf_counter(), model.size_bytes, parameters_by_bits(model)
    gate = _open_gate(recipe, model, _samples(gate_samples) or samples, host, progress)
    calibration = Calibration(
        samples=samples,
        memory_bytes=max_memory,
        directory=Path(resume) if resume is not None else None,
        key=_work_key(model, recipe, samples),
        float_backup=gate.float_backup if gate else None,
        progress=progress,
    )
    try:
        steps, held = run_steps(recipe, model, calibration, host), None
        if gate is not None:
            steps, held = gate.enforce(model, steps)
        steps = [describe_step(report, step) for report, step in zip(steps, recipe.steps, strict=True)]
    finally:
        if gate is not None:
            gate.float_backup.close()
    from sottovoce.runtime.layers import is_quantized, least_memory_bytes

    bits_after = parameters_by_bits(model)
    if model.stream is None:
        leave_file_(model.module)
    # As a loader does: one that finds no quantized layer on disk leaves the module as its library made it.
    optimize = model.architecture.runner.optimize_for_inference
    if model.stream is None and optimize is not None and is_quantized(model.module):
        optimize(model.module)
    model.report = CompressionReport(
        recipe=recipe.to_dict(),
        recipe_name=Path(recipe.title).name if recipe.title else None,
        architecture=model.architecture.name,
        source=provenance(model),
        steps=[*(model.report.steps if model.report else ()), *steps],
        coverage=widest_coverage(steps),
        size_bytes=Sizes(before=before, after=model.size_bytes),
        seconds=round(time.perf_counter() - begin, 3),
        peak_memory_bytes=peak_memory(),
        peak_gpu_memory_bytes=peak_gpu_memory(),
        least_memory_bytes=least_memory_bytes(model.module),
        versions=versions(),
        parameter_bits=ParameterBits(before=bits_before, after=bits_after),
        samples=SampleSet(**samples.to_dict()) if samples is not None else None,
        gate=held,
    )
    progress("done", len(recipe.steps), len(recipe.steps))
    return model.report


def parameters_by_bits(model: Model) -> dict[str, int]:
    """Return how many of a model's parameters are stored in how many bits each."""
    # It needs torch, which importing this does not.
    from sottovoce.runtime import layers

    return layers.parameters_by_bits(model.module)


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
    """What finished blocks belong to: the model's files, the recipe, the samples and the version that made them."""
    directory = model.source.directory
    paths = [path for path in directory.glob("*") if path.is_file()]
    files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    dtype = str(next(model.module.parameters()).dtype)
    facts = [
        versions().get("sottovoce"),
        str(directory.resolve()),
        model.source.weights,
        files,
        dtype,
        recipe.to_dict(),
        samples.identity if samples else None,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def run_steps(recipe: Recipe, model: Model, calibration: Calibration, host: Host) -> list[StepReport]:
    """Apply the steps in order; consecutive ones that work block by block share one pass through the model.

    Raises:
        RecipeError: No plugin applies a step.
        PluginError: A plugin answered something else than the step's class promises.
    """
    reports: list[StepReport] = []
    waiting: list[BlockStep] = []
    first = 0

    def run_waiting() -> None:
        if waiting:
            run = SequentialRunner(model, waiting, calibration.step(first)).run()
            reports.extend(run.reports)
            model.first_output = run.first_output
            waiting.clear()

    for number, step in enumerate(recipe.steps):
        calibration.progress(step.name, number, len(recipe.steps))
        if not step.by_block:
            run_waiting()
        first = first if waiting else number
        answer = host.call(
            "sottovoce_compress",
            model.architecture,
            step=step,
            model=model,
            samples=calibration.samples,
            calibration=calibration.step(number),
        )
        if answer is None:
            raise RecipeError(f"no installed plugin applies the step {step.name!r} to {model.architecture.name}")
        if step.by_block and isinstance(answer, BlockStep):
            waiting.append(answer)
        elif not step.by_block and isinstance(answer, StepReport):
            reports.append(answer)
        else:
            promised = "a BlockStep, for it works block by block" if step.by_block else "a StepReport"
            raise PluginError(f"the step {step.name!r} promises {promised}, but a plugin gave {type(answer).__name__}")
    run_waiting()
    return reports


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
