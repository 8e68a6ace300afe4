"""Loaded model, its source, and the options that it was loaded with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.narrow_floats import stored_bytes
from sottovoce.errors import UsageError
from sottovoce.report import number_format
from sottovoce.source import Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.architecture import Architecture
    from sottovoce.checkpoint.stream import Stream
    from sottovoce.report import CompressionReport
    from sottovoce.samples import Sample, SampleSketch


@dataclass(kw_only=True, repr=False)
class Model:
    """Model in memory.

    ``native`` is the object that the ecosystem's code uses (a FunASR ``AutoModel``, a transformers model);
    ``module`` is the torch module inside it that is compressed.
    """

    module: nn.Module
    architecture: Architecture
    source: Source
    native: Any
    processor: Any = None
    companions: dict[str, Model] = field(default_factory=dict)
    """Models that work beside this one (voice activity, punctuation), by the library's own names."""
    report: CompressionReport | None = None
    """Report of the compression; ``None`` for a model as published."""

    stream: Stream | None = None
    """Source of the blocks, when they are not in memory."""
    first_output: tuple[Sample, Tensor] | None = None
    """A sample, and the logits of a streamed model for it when its blocks were last in memory: saving compares."""
    rename: Callable[[str], str] | None = None
    """Function from a tensor's name in the module to its name in the checkpoint, if the two differ."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the configuration that pruning changed, by their paths, such as ``encoder_conf.num_blocks``."""
    planned_inputs: dict[str, int] = field(default_factory=dict)
    """By name of a linear layer, the number of inputs that it will have after steps that are planned already: the steps
    of one pass are planned before any of them is applied."""

    trained_samples: SampleSketch | None = None
    """Sketch of the samples that the model was trained on here; ``None`` if it was not."""
    attachments: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    """Writers of further files that are saved with the weights, by the file's name."""

    def __repr__(self) -> str:
        """Return what identifies the model, on one line."""
        steps = ", ".join(step.name for step in self.report.steps) if self.report else ""
        compressed = f", compressed by {steps}" if steps else ""
        return (
            f"<Model {self.source.name}: {self.architecture.name}, {number_format.size(self.size_bytes)}{compressed}>"
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors that a checkpoint holds; tensors that share memory count once."""
        return sum(stored_bytes(self.module).values())

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes of the same tensors, by the family's parts of the model."""
        parts: dict[str, int] = {}
        for name, size in stored_bytes(self.module).items():
            part = self.architecture.part_of(name)
            parts[part] = parts.get(part, 0) + size
        return parts


@contextmanager
def in_evaluation_mode(model: Model) -> Iterator[None]:
    """Run the block with all modules in evaluation mode, in which models are loaded, and restore each one's mode.

    In training mode a model drops units at random, and its outputs are not those that anyone will get.
    """
    trained = [module for module in model.module.modules() if module.training]
    model.module.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def require_model(model: Any, call: str) -> Model:
    """Return ``model`` if it comes from :func:`sottovoce.load`.

    Raises:
        UsageError: It is another library's object; says what to call, with the directory that the object names.
    """
    if isinstance(model, Model):
        return model
    config = getattr(model, "config", None)
    named = getattr(model, "model_path", None) or getattr(config, "_name_or_path", None)
    source = repr(str(named)) if isinstance(named, str | Path) and str(named) else "DIRECTORY"
    raise UsageError(
        f"{call} takes a model of sottovoce.load, not a {type(model).__name__}: load the model with "
        f"sottovoce.load({source}); its own library's object is then the model's `native`"
    )
