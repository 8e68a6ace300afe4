"""One way through a model's blocks that consecutive steps of a recipe share.

Every block is brought into memory, worked on by the steps in the recipe's order, kept as finished, run on the
calibration samples with its new weights, and let go. Work that was interrupted takes finished blocks back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.calibration.blocks import Block, blocks_of, room_for_activations, run_blocks
from sottovoce.calibration.calibration import check_samples
from sottovoce.calibration.resume import ResumableBlocks

if TYPE_CHECKING:
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.report import StepReport
    from sottovoce.samples import Sample

_STEPS, _NOTES = "steps", "notes"


@runtime_checkable
class BlockStep(Protocol):
    """A step of a recipe that changes a model block by block. It may share its way with the steps beside it.

    One whose class says ``observes = True`` only looks: its blocks are not kept as finished ones, and it shares its way
    with others of its kind alone.
    """

    @property
    def layers(self) -> Sequence[str]:
        """The modules that it changes; the blocks that hold them are visited, as are those that lie in none."""

    def on_start(self) -> None:
        """Change what lies outside of all blocks; called once, before the first."""

    def process_block(self, block: Block) -> dict[str, Any]:
        """Change a block in place; without samples it has no sample_threads.

        Returns:
            Facts for :meth:`restore_`, in the form of JSON.
        """

    def restore_(self, block: str, facts: Mapping[str, Any]) -> None:
        """Give a block the structure that :meth:`process_block` gave it; its tensors come from a file."""

    def on_end(self) -> StepReport:
        """What was changed; called once, after the last block."""


class SequentialRunner:
    """Block steps on their way through a model."""

    def __init__(self, model: Model, steps: Sequence[BlockStep], calibration: Calibration) -> None:
        """Prepare the way.

        Raises:
            SamplesError: The samples cannot be calibrated on.
            MemoryLimitError: The work does not fit the limit.
        """
        self._model, self._steps, self._calibration = model, steps, calibration
        self._samples: Sequence[Sample] = calibration.samples or ()
        self._observes = bool(steps) and all(getattr(step, "observes", False) for step in steps)
        self._told: tuple[str, ...] = ()
        if calibration.samples is not None and steps:
            self._told = check_samples(calibration.samples, model.architecture)
        directory = calibration.directory
        scales = len(steps) > 1 or any(getattr(step, "scales", False) for step in steps)
        if calibration.float_backup is not None and scales:
            # A gate keeps layers as they were scaled, or left by an earlier step, which a finished block does not tell.
            directory = None
        if model.stream is not None and directory is None and steps and not self._observes:
            directory = model.stream.new_directory()
        self._finished = ResumableBlocks(directory, calibration.key, model.rename)
        self._seconds = [0.0 for _ in steps]
        self._done = 0

    def run_(self) -> list[StepReport]:
        """Go through all blocks.

        Returns:
            What each step changed, in their order.
        """
        for step in self._steps:
            step.on_start()
        model, stream = self._model, self._model.stream
        self._worked = blocks_of(model, [layer for step in self._steps for layer in step.layers])
        blocks = list(self._worked)
        if stream is not None and self._samples:
            # What runs on the way must be in memory, whether it is changed or not.
            blocks = blocks_of(model, [*blocks, *stream.blocks])
        held = ActivationCache(room_for_activations(model, blocks, self._calibration.memory_bytes))
        first: list[Any] = []
        # It needs torch, which importing this does not.
        from sottovoce.runtime.packed_linear import float_weights_held

        begin = time.perf_counter()
        left = run_blocks(
            model, self._samples, blocks, self._visit, activations=held, leave=self._leave, first=first,
            hold=float_weights_held,
        )  # fmt: skip
        for name in left:
            if name in self._worked:
                self._visit(Block(name, model.module, ()))
                self._leave(name)
        if stream is not None and first:
            stream.first = (self._samples[0], first[0])
        running = max(0.0, time.perf_counter() - begin - sum(self._seconds))
        return self._reports(running)

    def _visit(self, block: Block) -> None:
        model, stream = self._model, self._model.stream
        self._calibration.progress(self._title, self._done, len(self._worked))
        restored = self._finished.restore_(model.module, block.name, lambda facts: self._prepare_(block.name, facts))
        if restored is None:
            if stream is not None and model.rename is not None:
                stream.load_block(block.name, model.rename)
            if block.name not in self._worked:
                return
            if self._observes:
                for step in self._steps:
                    step.process_block(block)
                return
            self._finished.keep(model.module, block.name, {_STEPS: [self._timed(number, block) for number in
                                                                    range(len(self._steps))]})  # fmt: skip
        if stream is not None and block.name in stream.blocks:
            stream.note(block.name, self._finished.path(block.name), self._finished.digests[block.name])
        self._done += 1
        self._calibration.progress(self._title, self._done, len(self._worked))

    def _timed(self, number: int, block: Block) -> dict[str, Any]:
        begin = time.perf_counter()
        try:
            return self._steps[number].process_block(block)
        finally:
            self._seconds[number] += time.perf_counter() - begin

    def _prepare_(self, block: str, facts: Mapping[str, Any]) -> None:
        for step, each in zip(self._steps, facts[_STEPS], strict=True):
            step.restore_(block, each)

    def _leave(self, block: str) -> None:
        stream = self._model.stream
        if stream is not None and block in stream.blocks:
            stream.offload_block(block)

    @property
    def _title(self) -> str:
        names = [str(getattr(step, "name", "")) for step in self._steps]
        return f"{' and '.join(filter(None, names))} blocks"

    def _reports(self, running: float) -> list[StepReport]:
        made = [
            replace(report, seconds=round(spent + report.seconds, 3))
            for spent, report in zip(self._seconds, (step.on_end() for step in self._steps), strict=True)
        ]
        if made and self._samples:
            timing = {**made[-1].timing, "running blocks": round(made[-1].timing.get("running blocks", 0) + running, 2)}
            made[-1] = replace(made[-1], timing=timing, seconds=round(made[-1].seconds + running, 3))
        if made:
            made[0] = replace(made[0], notes=(*self._told, *made[0].notes))
        return made
