"""Compression of a model by a recipe."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.calibration.calibration import Calibration
from sottovoce.checkpoint.finite import require_finite
from sottovoce.checkpoint.weights import leave_file_
from sottovoce.entrypoints.accuracy_gate import Gate
from sottovoce.entrypoints.apply_steps import apply_steps
from sottovoce.entrypoints.describe import describe_step
from sottovoce.entrypoints.load import load
from sottovoce.entrypoints.processes import check_processes
from sottovoce.entrypoints.save import provenance, widest_coverage
from sottovoce.errors import SamplesError, UsageError
from sottovoce.model import Model, in_evaluation_mode, require_model
from sottovoce.plugins.host import Host, default_host
from sottovoce.recipe.recipe import Recipe, RecipeArgument
from sottovoce.report import CompressionReport, GateReport, ParameterBits, SampleSet, Sizes, StepReport
from sottovoce.report.number_format import counted
from sottovoce.samples import Samples, SamplesArgument, SampleSketch, as_samples_or_none
from sottovoce.system import distributed
from sottovoce.system.machine import peak_gpu_memory, peak_memory, reset_peak_memory, versions
from sottovoce.system.number_argument import as_count
from sottovoce.system.path_argument import as_path_or_none
from sottovoce.system.process_state import kept_random_state, usual_gradients
from sottovoce.system.progress import Progress, shown


@kept_random_state()
def compress(
    model: Model,
    recipe: RecipeArgument,
    samples: SamplesArgument | None = None,
    *,
    training_samples: SamplesArgument | None = None,
    gate_samples: SamplesArgument | None = None,
    max_memory: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    host: Host | None = None,
    progress: Progress | bool = False,
) -> CompressionReport:
    """Apply a recipe to a model, in place.

    Several processes that ``torchrun`` started divide the samples and get the same model; all of them must call this.

    Args:
        model: The model; after an error its weights may be partly changed, so load it again.
        recipe: A preset's name, a recipe file, a recipe, or its steps.
        samples: Calibration samples for recipes that need them: a list of them, or their manifest.
        training_samples: Samples or their manifest for steps that train; by default those of ``samples``.
        gate_samples: Samples that the recipe's gate is measured on; by default the calibration samples.
        max_memory: Bytes that the process may take while it calibrates: activations that do not fit go to disk.
        resume: A directory for completed blocks, from which interrupted work resumes; remove it when all is done.
        log: A directory for TensorBoard's log of training.
        host: The plugins; by default the process's own.
        progress: True for a display on standard error; or a function, called before every step.

    Raises:
        UsageError: The model is another library's object.
        RecipeError: The recipe does not validate, or no plugin applies a step; the model is unchanged.
        CoverageError: A step changed a smaller share of the parameters than the recipe promises.
        SamplesError: The recipe calibrates, and there are no samples, or they are too short or of the wrong kind.
        MemoryLimitError: The work does not fit ``max_memory``.
        GateError: The gate's bounds cannot be met.
        NotFiniteError: A weight is infinite or not a number; the model is unchanged.
        SottovoceError: Of several processes one was given another model, recipe or samples.
    """
    model, host = require_model(model, "sottovoce.compress"), host or default_host()
    recipe, samples = host.recipe(recipe), as_samples_or_none(samples)
    training_samples = as_samples_or_none(training_samples, "training_samples")
    gate_samples = as_samples_or_none(gate_samples, "gate_samples")
    require_samples(recipe, samples, training_samples)
    given = {"samples": samples, "samples to train on": training_samples, "samples of the gate": gate_samples}
    max_memory = None if max_memory is None else as_count(max_memory, "max_memory", least=0)
    check_processes(model, recipe, given, max_memory)
    _refuse_shared(training_samples, gate_samples)
    require_finite(model.module)
    reset_peak_memory()
    start = _Start(time.perf_counter(), model.size_bytes, parameters_by_bits(model))
    with shown(progress) as progress, usual_gradients(), in_evaluation_mode(model):
        gate = _open_gate(recipe, model, gate_samples or samples, host, progress)
        calibration = Calibration(
            samples=samples,
            memory_bytes=max_memory,
            directory=as_path_or_none(resume, "resume"),
            key=work_key(model, recipe.to_dict(), samples),
            training_samples=training_samples,
            load_teacher=lambda name: _load_teacher(model, name, host),
            log=as_path_or_none(log, "log"),
            float_backup=gate.float_backup if gate else None,
            progress=progress,
            is_divided=distributed.world_size() > 1,
        )
        steps, gate_report = _apply(recipe, model, calibration, gate, host)
        bits = ParameterBits(before=start.parameter_bits, after=parameters_by_bits(model))
        _optimize(model)
        model.report = _report(model, recipe, samples, start, steps, bits, gate_report)
        progress("done", len(recipe.steps), len(recipe.steps))
    return model.report


@dataclass(frozen=True)
class _Start:
    """The clock and the model before its compression."""

    seconds: float
    size_bytes: int
    parameter_bits: Mapping[str, int]


def _apply(
    recipe: Recipe, model: Model, calibration: Calibration, gate: Gate | None, host: Host
) -> tuple[list[StepReport], GateReport | None]:
    """Apply the steps and enforce the gate; return the reports of both."""
    try:
        steps, gate_report = apply_steps(recipe, model, calibration, host), None
        if gate is not None:
            steps, gate_report = gate.enforce(model, steps)
        return [describe_step(report, step) for report, step in zip(steps, recipe.steps, strict=True)], gate_report
    finally:
        if gate is not None:
            gate.float_backup.close()


def _optimize(model: Model) -> None:
    """Prepare a compressed model for inference, as a loader does."""
    from sottovoce.runtime.layers import is_quantized

    if model.stream is not None:
        return
    leave_file_(model.module)
    optimize = model.architecture.runner.optimize_for_inference
    # A loader that sees no quantized layer on disk leaves the module as its library built it.
    if optimize is not None and is_quantized(model.module):
        optimize(model.module)


def _report(
    model: Model,
    recipe: Recipe,
    samples: Samples | None,
    start: _Start,
    steps: list[StepReport],
    bits: ParameterBits,
    gate: GateReport | None,
) -> CompressionReport:
    from sottovoce.runtime.layers import least_memory_bytes

    return CompressionReport(
        recipe=recipe.to_dict(),
        recipe_name=Path(recipe.title).name if recipe.title else None,
        architecture=model.architecture.name,
        source=provenance(model),
        steps=[*(model.report.steps if model.report else ()), *steps],
        coverage=widest_coverage(steps),
        size_bytes=Sizes(before=start.size_bytes, after=model.size_bytes),
        seconds=round(time.perf_counter() - start.seconds, 3),
        peak_memory_bytes=peak_memory(),
        peak_gpu_memory_bytes=peak_gpu_memory(),
        least_memory_bytes=least_memory_bytes(model.module, model.architecture.runner.int8_copies),
        versions=versions(),
        parameter_bits=bits,
        samples=SampleSet(**samples.to_dict()) if samples is not None else None,
        gate=gate,
    )


def parameters_by_bits(model: Model) -> dict[str, int]:
    """Return the number of a model's parameters by the bits that each is stored in."""
    # It needs torch, which importing this does not.
    from sottovoce.runtime import layers

    return layers.parameters_by_bits(model.module)


def require_samples(recipe: Recipe, samples: Samples | None, training_samples: Samples | None = None) -> None:
    """Check that there are samples if a recipe needs them.

    Raises:
        SamplesError: The recipe calibrates or trains, and there are no samples.
    """
    given = samples, training_samples or samples
    needed = recipe.needs_calibration, recipe.needs_training_samples
    for is_needed, has, what in zip(needed, given, ("calibrates", "trains"), strict=True):
        if is_needed and has is None:
            option = "--data" if what == "calibrates" else "--train-data"
            raise SamplesError(f"the recipe {recipe.title or 'given'} {what} on real samples: give them ({option})")


def _refuse_shared(training_samples: Samples | None, gate_samples: Samples | None) -> None:
    """Refuse to measure the gate on samples that the model was trained on."""
    if training_samples is None or gate_samples is None:
        return
    if shared := SampleSketch.of(training_samples).shared(gate_samples):
        raise SamplesError(
            f"{gate_samples.path or 'the gate'}: {counted(len(shared), 'sample is', 'samples are')} among those "
            f"to train on too, such as {shared[0]!r}; measure on others"
        )


def _load_teacher(student: Model, name: str | None, host: Host) -> Model:
    """Load a model by name, or the student's own files, on the student's device."""
    parameter = next(student.module.parameters())
    options: dict[str, Any] = {"device": str(parameter.device)}
    if student.source.weights is not None and name is None:
        options["weights"] = student.source.weights
    return load(name or student.source.directory, host=host, **options)


def _open_gate(recipe: Recipe, model: Model, samples: Samples | None, host: Host, progress: Progress) -> Gate | None:
    if not recipe.gate:
        return None
    if samples is None:
        raise SamplesError("the recipe's gate is measured on samples; give them (--data or --gate-data)")
    return Gate.open(recipe.gate, model, samples, host, progress)


def work_key(model: Model, settings: Mapping[str, Any], samples: Samples | None) -> str:
    """Return a digest of all that unfinished work depends on: the model's files, settings, samples and version."""
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
        settings,
        samples.identity if samples else None,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def from_pretrained(
    source: str | os.PathLike[str],
    recipe: RecipeArgument | None = None,
    samples: SamplesArgument | None = None,
    *,
    host: Host | None = None,
    **options: Any,
) -> Any:
    """Load a model, compress it, and return the object that its own library's code uses.

    Args:
        source: As for :func:`load`.
        recipe: As for :func:`compress`; ``None`` leaves the model as it is.
        samples: Calibration samples for recipes that need them: a list of them, or their manifest.
        host: The plugins; by default the process's own.
        **options: As for :func:`load`; ``<companion>_recipe`` (such as ``vad_recipe``) compresses a model that is
            loaded together with this one.

    Raises:
        UsageError: The model has no such companion, or an option is unknown.
        SottovoceError: As for :func:`load` and :func:`compress`.
    """
    companions = {name: options.pop(name) for name in list(options) if name.endswith("_recipe")}
    model = load(source, host=host, **options)
    if unknown := [name for name in companions if name.removesuffix("_recipe") not in model.companions]:
        names = ", ".join(model.companions) or "none"
        raise UsageError(f"{unknown[0]}: {source} has no such companion model; it has: {names}")
    if recipe is not None:
        compress(model, recipe, samples, host=host)
    for name, companion_recipe in companions.items():
        compress(model.companions[name.removesuffix("_recipe")], companion_recipe, host=host)
    return model.native
