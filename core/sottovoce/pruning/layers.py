"""Pruning of whole layers: the least important are removed, and the layers before them absorb what they added."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sottovoce.calibration.calibration import check_samples
from sottovoce.calibration.held_out import evenly
from sottovoce.errors import MemoryLimitError, SamplesError
from sottovoce.pruning.description import PartCounts
from sottovoce.pruning.layer_absorption import Absorption
from sottovoce.pruning.layer_choice import LayerChooser, SampleSplit
from sottovoce.pruning.layer_plan import LayerPart, plan_parts
from sottovoce.pruning.layer_removal import remove_layers_
from sottovoce.pruning.layer_report import Removal, layers_report

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.pruning.step import PruneLayers
    from sottovoce.report import StepReport


def prune_layers_(model: Model, architecture: Architecture, step: PruneLayers, calibration: Calibration) -> StepReport:
    """Remove layers of a model in place, as the step ``prune_layers`` says.

    Layers are chosen greedily, by the divergence from the model before that each removal would cause once it is
    absorbed. Without data (meta tensors) evenly spread layers go.

    Raises:
        RecipeError: The step does not fit the model.
        CoverageError: A layer is quantized already.
        MemoryLimitError: The model's blocks are on disk.
        SamplesError: The samples cannot be calibrated on, or reach none of the layers.
        PluginError: The family's shape does not fit the model.
    """
    if model.stream is not None:
        raise MemoryLimitError(
            f"{step.name}: the blocks of {model.source.name} are read from disk one by one, and this step runs the "
            "whole model many times; load it whole, with more memory, or leave the step out"
        )
    parameters = {name: parameter.numel() for name, parameter in model.module.named_parameters()}
    parts = plan_parts(model, architecture, step)
    is_meta = any(parameter.is_meta for parameter in model.module.parameters())
    if is_meta or not step.needs_samples:
        names = [name for part in parts for name in part.named or evenly(part.removable, part.remove)]
        removal = Removal(names)
    elif calibration.samples is None:
        raise SamplesError(f"{step.name} needs calibration samples; give some, or name layers and set absorb: false")
    else:
        notes = check_samples(calibration.samples, architecture)
        removal = _remove_on_samples(model, step, parts, calibration)
        removal.notes[:0] = notes
    removed: dict[str, int] = {}
    for part in parts:
        removed |= remove_layers_(model, part, removal.names)
    counts = {
        part.depth.part: PartCounts(before=len(part.chain), kept=len(part.chain) - part.remove, layers=1)
        for part in parts
    }
    removal.measure()
    return layers_report(step.to_dict(), architecture, parameters, removed, counts, removal)


def _remove_on_samples(
    model: Model, step: PruneLayers, parts: Sequence[LayerPart], calibration: Calibration
) -> Removal:
    """Choose the layers, and fit those before them; nothing is removed yet."""
    begin = time.perf_counter()
    split = SampleSplit.of(calibration.samples or (), step.held_out)
    total = sum(part.remove for part in parts)
    chooser = LayerChooser(model, step, split)
    chooser.choose(parts, lambda done: calibration.progress("prune_layers layers", done, total))
    choosing = time.perf_counter() - begin
    removal = Removal(chooser.removed, chooser.removals, timing={"choosing layers": round(choosing, 2)})
    removal.last = lambda: chooser.measure(chooser.removed[-1])
    if step.absorb:
        begin = time.perf_counter()
        fits = [fit for part in parts for fit in part.fits(chooser.removed)]
        absorption = Absorption(model, fits, split, step.damp)
        removal.errors = absorption.fit_(chooser.removed, calibration.memory_bytes)
        removal.notes.extend(absorption.notes)
        removal.timing["fitting layers"] = round(time.perf_counter() - begin, 2)
    return removal
