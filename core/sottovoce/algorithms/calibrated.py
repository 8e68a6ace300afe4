"""Quantization on samples, block by block: what a layer is given decides how it is rounded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from sottovoce.activations import Activations
from sottovoce.algorithms.error import output_error, output_power, signal_to_noise_db
from sottovoce.algorithms.gptq import gptq
from sottovoce.algorithms.observation import Order, layers_by_input, observe
from sottovoce.algorithms.round_to_nearest import Quantized, nearest, round_layer_, stored_bits
from sottovoce.algorithms.smoothing import scale_by_activations_
from sottovoce.algorithms.static import choose_range
from sottovoce.algorithms.statistics import InputStatistics
from sottovoce.calibration import Calibration, check_samples
from sottovoce.checkpoint.finished import FinishedBlocks
from sottovoce.errors import NotFiniteError, SottovoceError
from sottovoce.formats.layers import empty, from_steps, replace_
from sottovoce.model import Model
from sottovoce.recipe import Quantize
from sottovoce.scheme import Scheme
from sottovoce.walk import Block, blocks_of, room_for_activations, walk


def calibrate_(
    model: Model, schemes: Mapping[str, Scheme], step: Quantize, calibration: Calibration
) -> tuple[dict[str, Quantized], tuple[str, ...], dict[str, float]]:
    """Replace the layers by quantized ones, in place.

    Returns:
        What became of every layer, notes on layers that no sample reached, and the seconds that each part took.
    """
    if calibration.samples is None:
        raise SottovoceError("calibration without samples")
    told = check_samples(calibration.samples, model.architecture)
    work = _Work(model, schemes, step, calibration)
    work.notes.extend(told)
    blocks = blocks_of(model, [name for name in schemes if name not in work.found])
    activations = Activations(room_for_activations(model, blocks, calibration.memory_bytes))
    work.total = len(blocks)
    walk(model, calibration.samples, blocks, work.visit, activations=activations)
    work.round_the_rest_()
    return work.found, tuple(work.notes), {what: round(spent, 2) for what, spent in work.seconds.items()}


_NOTES = "notes"


class _Work:
    """One calibrated step under way."""

    def __init__(self, model: Model, schemes: Mapping[str, Scheme], step: Quantize, calibration: Calibration) -> None:
        self.model, self.schemes, self.step, self.calibration = model, dict(schemes), step, calibration
        self.module = model.module
        self.found: dict[str, Quantized] = {}
        self.notes: list[str] = []
        self.total = 0
        self.seconds = {"running blocks": 0.0, "rounding layers": 0.0}
        self._visited = 0
        self._unscaled_error: dict[str, float] = {}
        # For a gate a layer is kept as AWQ scaled it, which a finished block does not tell.
        scaled = step.method == "awq" and calibration.originals is not None
        self._finished = FinishedBlocks(None if scaled else calibration.directory, calibration.key)
        for name in schemes:
            # Tables first: what reads them then sees what they became.
            if isinstance(self.module.get_submodule(name), nn.Embedding):
                self.found[name] = round_layer_(self.module, name, schemes[name], step)

    def visit(self, block: Block) -> None:
        """Quantize the layers of one block."""
        self.calibration.progress(f"{self.step.name} blocks", self._visited, self.total)
        self._visited += 1
        layers = {name: scheme for name, scheme in self.schemes.items() if self._is_in(name, block.name)}
        restored = self._finished.restore_(self.module, block.name, self._prepare_)
        if restored is not None:
            self.notes.extend(restored.pop(_NOTES))
            self.found.update({name: Quantized(**facts) for name, facts in restored.items()})
            return
        told = len(self.notes)
        if self.step.method == "awq":
            search = self.step.weight_range == "mse"
            self._unscaled_error |= scale_by_activations_(self.model.architecture, block, layers, search=search)
        order = layers_by_input(block, list(layers))
        together = [[name for group in order.groups for name in group]]
        for names in order.groups if self._sequential else together:
            self._quantize(block, names, order)
        facts: dict[str, Any] = {name: vars(self.found[name]) for name in layers if name in self.found}
        if all(self.schemes[name] == scheme for name, scheme in layers.items()):
            # A block with a layer that no sample reached is stored otherwise than was planned, and is done again.
            self._finished.keep(self.module, block.name, facts | {_NOTES: self.notes[told:]})
        self.calibration.progress(f"{self.step.name} blocks", self._visited, self.total)

    def _prepare_(self, names: Iterable[str]) -> None:
        for name in names:
            if name == _NOTES:
                continue
            layer = self.module.get_submodule(name)
            if self.calibration.originals is not None and isinstance(layer, nn.Linear):
                self.calibration.originals.keep(name, layer)
            made = empty(layer, self.schemes[name])
            if made is not None:
                replace_(self.module, name, made)

    @property
    def _sequential(self) -> bool:
        return self.step.gptq is not None and self.step.gptq.true_sequential

    def _is_in(self, name: str, block: str) -> bool:
        inside = name == block or name.startswith(f"{block}.")
        return inside and name not in self.found

    def _quantize(self, block: Block, names: Sequence[str], order: Order) -> None:
        begin = time.perf_counter()
        statistics = observe(block, names, order)
        self.seconds["running blocks"] += time.perf_counter() - begin
        begin = time.perf_counter()
        for name in names:
            if not statistics[name].rows:
                self._round_unseen_(name)
                continue
            self.found[name] = self._replace(name, statistics[name])
        self.seconds["rounding layers"] += time.perf_counter() - begin

    def _replace(self, name: str, statistics: InputStatistics) -> Quantized:
        layer, scheme = self.module.get_submodule(name), self.schemes[name]
        assert isinstance(layer, nn.Linear)
        if self.calibration.originals is not None:
            self.calibration.originals.keep(name, layer)
        weight, hessian = layer.weight.detach(), statistics.hessian
        steps, grid = nearest(weight, scheme, self.step)
        rounded_steps = steps
        power = output_power(weight, hessian)
        rounded_error = error = output_error(weight, grid.values(steps), hessian, power)
        if self.step.gptq is not None and scheme.type == "int":
            try:
                steps = gptq(weight, hessian, grid, self.step.gptq)
            except ArithmeticError as problem:
                raise NotFiniteError(f"{name}: {problem}") from None
            error = output_error(weight, grid.values(steps), hessian, power)
            if error > rounded_error:
                self.notes.append(f"{name}: rounding to nearest has the smaller output error, and was kept")
                steps, error = rounded_steps, rounded_error
        snr = signal_to_noise_db(weight, grid.values(steps))
        inputs = choose_range(statistics.values, self.step.input_range) if self.step.input_range else None
        made = from_steps(layer, steps, grid, inputs)
        replace_(self.module, name, made)
        return Quantized(
            bits=stored_bits(made),
            snr_db=None if snr is None else round(snr, 2),
            output_error=float(f"{error:.4g}"),
            rounded_output_error=float(f"{self._unscaled_error.get(name, rounded_error):.4g}"),
        )

    def _round_unseen_(self, name: str) -> None:
        scheme = self.schemes[name]
        if scheme.activations == "static":
            strategy = self.model.architecture.activation_strategy
            scheme = replace(scheme, activations="dynamic", strategy=strategy)
            self.notes.append(f"{name}: no sample reached it; its inputs are rounded by their own range")
        else:
            self.notes.append(f"{name}: no sample reached it; rounded to nearest")
        self.schemes[name] = scheme
        self.found[name] = round_layer_(self.module, name, scheme, self.step, self.calibration.originals)

    def round_the_rest_(self) -> None:
        """Layers in blocks that no sample reached."""
        for name in self.schemes:
            if name not in self.found:
                self._round_unseen_(name)
