"""The sequential runner: one pass through a model's blocks for consecutive steps of a recipe.

For every block: load it, let the steps change it in the recipe's order, keep it for resuming, compute its outputs on
the calibration samples with its new weights, and offload it. Blocks of interrupted work are read back instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.calibration.block_storage import BlockStorage
from sottovoce.calibration.blocks import Block, blocks_of, room_for_activations, run_blocks
from sottovoce.calibration.calibration import check_samples
from sottovoce.calibration.kept_outputs import KeptOutputs
from sottovoce.errors import PluginError
from sottovoce.report import StepReport
from sottovoce.system import distributed

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.calibration.block_step import BlockStep
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.samples import Sample

_STEPS = "steps"


@dataclass(frozen=True)
class SequentialRun:
    """Results of one pass."""

    reports: list[StepReport]
    """Reports of the steps, in their order."""
    first_output: tuple[Sample, Tensor] | None
    """The first sample and the model's output for it, computed with the blocks as they are now; for a model whose
    blocks are on disk this takes a pass, so it is kept."""


class SequentialRunner:
    """Runner of block steps through a model."""

    def __init__(self, model: Model, steps: Sequence[BlockStep], calibration: Calibration) -> None:
        """Check the samples.

        Raises:
            SamplesError: The samples cannot be calibrated on.
        """
        self._model, self._steps, self._calibration = model, steps, calibration
        samples = calibration.samples or ()
        self._is_divided = calibration.is_divided and all(step.divides_samples for step in steps)
        self._samples: Sequence[Sample] = distributed.share(samples) if self._is_divided else samples
        self._only_observes = bool(steps) and all(step.only_observes for step in steps)
        self._sample_notes: tuple[str, ...] = ()
        if calibration.samples is not None and steps:
            self._sample_notes = check_samples(calibration.samples, model.architecture)
        self._storage = BlockStorage.of(model, steps, calibration)
        self._seconds = [0.0 for _ in steps]
        self._to_change: list[str] = []
        self._done = 0

    @property
    def _runs_original(self) -> bool:
        """True if the samples run through the unchanged model too, which takes all of it, and room for activations."""
        is_wanted = any(step.uses_original_outputs or step.original_layers for step in self._steps)
        return is_wanted and self._calibration.has_original(self._model)

    def run(self) -> SequentialRun:
        """Run all blocks.

        Raises:
            MemoryLimitError: The work does not fit the limit.
        """
        for step in self._steps:
            step.on_start()
        model, calibration = self._model, self._calibration
        self._to_change = blocks_of(model, [layer for step in self._steps for layer in _layers_of(step)])
        blocks = self._to_change
        if model.stream is not None and calibration:
            # Blocks that nothing changes must be in memory too while the samples pass through them.
            blocks = blocks_of(model, [*blocks, *model.stream.blocks])
        # It needs torch, which importing this module does not.
        from sottovoce.runtime.packed_linear import float_weights_held

        begin = time.perf_counter()
        pass_ = run_blocks(
            model,
            self._samples,
            blocks,
            self._process,
            cache=ActivationCache(room_for_activations(model, blocks, calibration.memory_bytes)),
            offload=self._storage.offload,
            keeps_first_output=model.stream is not None,
            runs_original=self._runs_original,
            original_layers=[name for step in self._steps for name in step.original_layers],
            hold_weights=float_weights_held,
            is_divided=self._is_divided,
        )
        for name in pass_.unreached:
            if name in self._to_change:
                self._process(Block(name, model.module, ()))
                self._storage.offload(name)
        running = max(0.0, time.perf_counter() - begin - sum(self._seconds))
        first_output = (self._samples[0], pass_.first_output) if pass_.first_output is not None else None
        return SequentialRun(self._reports(running), first_output)

    def _process(self, block: Block) -> None:
        self._report_progress()
        restored = self._storage.restore(block.name, lambda facts: self._restore(block.name, facts))
        if not restored:
            self._storage.load(block.name)
            if block.name not in self._to_change:
                return
            with self._outputs_before(block) as ready:
                facts = [self._timed(number, ready) for number in range(len(self._steps))]
            if self._only_observes:
                return
            self._storage.keep(block.name, {_STEPS: facts})
        self._done += 1
        self._report_progress()

    @contextmanager
    def _outputs_before(self, block: Block) -> Iterator[Block]:
        """Give a block its outputs before any change, where a step asks for them."""
        if not block.sample_threads or not any(step.uses_outputs_before for step in self._steps):
            yield block
            return
        kept = KeptOutputs(on_disk=self._calibration.memory_bytes is not None)
        try:
            kept.keep(block)
            yield replace(block, outputs_before=kept)
        finally:
            kept.close()

    def _restore(self, block: str, facts: Mapping[str, Any]) -> None:
        for step, step_facts in zip(self._steps, facts[_STEPS], strict=True):
            step.restore_block(block, step_facts)

    def _timed(self, number: int, block: Block) -> dict[str, Any]:
        step = self._steps[number]
        with self._timer(number):
            facts = step.process_block(block)
        if not isinstance(facts, Mapping):
            raise _problem(step, f"process_block gave {type(facts).__name__}, not facts by name")
        return facts

    @contextmanager
    def _timer(self, number: int) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[number] += time.perf_counter() - begin

    def _report_progress(self) -> None:
        names = " and ".join(step.name for step in self._steps if step.name)
        self._calibration.progress(f"{names} blocks", self._done, len(self._to_change))

    def _reports(self, running: float) -> list[StepReport]:
        reports = [
            replace(report, seconds=round(spent + report.seconds, 3))
            for spent, report in zip(self._seconds, map(_report_of, self._steps), strict=True)
        ]
        if not reports:
            return []
        if self._calibration:
            last = reports[-1]
            timing = {**last.timing, "running blocks": round(last.timing.get("running blocks", 0) + running, 2)}
            reports[-1] = replace(last, timing=timing, seconds=round(last.seconds + running, 3))
        reports[0] = replace(reports[0], notes=(*self._sample_notes, *reports[0].notes))
        return reports


def _layers_of(step: BlockStep) -> list[str]:
    layers = step.layers
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise _problem(step, f"layers is {type(layers).__name__}, not a sequence of names")
    return list(layers)


def _report_of(step: BlockStep) -> StepReport:
    report = step.on_end()
    if not isinstance(report, StepReport):
        raise _problem(step, f"on_end gave {type(report).__name__}, not a StepReport")
    return report


def _problem(step: BlockStep, what: str) -> PluginError:
    return PluginError(f"the step {step.name!r}, which {type(step).__module__} applies: {what}")
