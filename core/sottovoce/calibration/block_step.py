"""The contract between the sequential runner and a step that works block by block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from sottovoce.calibration.blocks import Block
    from sottovoce.report import StepReport


@runtime_checkable
class BlockStep(Protocol):
    """A step of a recipe that changes a model block by block, in one pass with the adjacent steps.

    Derive from it, so that the members with a default need not be written.
    """

    name: str = ""
    """The step's name, for progress and errors."""
    rescales_weights: bool = False
    """If true, layers that stay float change too, so a gate cannot restore them from a block that is resumed."""
    uses_original_outputs: bool = False
    """If true, a block has its outputs in the model before any change too, where that is in memory."""
    original_layers: Sequence[str] = ()
    """Names of layers within the blocks whose outputs in the model before any change a block has as well."""
    uses_outputs_before: bool = False
    """If true, a block has the outputs that it gave before the steps of the pass changed it, for the same inputs."""
    divides_samples: bool = False
    """If true, the step works where a process has a part of the samples: it exchanges its sums with the other processes
    before it decides anything. Otherwise every process runs all samples."""
    only_observes: bool = False
    """If true, nothing is changed: blocks are not kept for resuming, and the pass is shared with such steps alone."""

    @property
    @abstractmethod
    def layers(self) -> Sequence[str]:
        """Names of the modules to change: the blocks that contain them are processed, and those outside of blocks."""

    def on_start(self) -> None:
        """Change what is outside of all blocks, if anything; called once, before the first block."""
        return None

    @abstractmethod
    def process_block(self, block: Block) -> dict[str, Any]:
        """Change a block in place; without calibration samples it has no sample threads.

        Returns:
            Facts for :meth:`restore_block`, in the form of JSON.
        """

    @abstractmethod
    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Give a block the structure that :meth:`process_block` gave it; its tensors are read from a file next."""

    @abstractmethod
    def on_end(self) -> StepReport:
        """Report the changes; called once, after the last block."""
