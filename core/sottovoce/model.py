"""Loaded model, its source, and the options that it was loaded with."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sottovoce.errors import UsageError
from sottovoce.report import number_format

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.architecture import Architecture
    from sottovoce.checkpoint.stream import Stream
    from sottovoce.report import CompressionReport
    from sottovoce.samples import Sample

Hub = Literal["hf", "modelscope"]


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Model repository on a hub."""

    id: str
    hub: Hub = "hf"
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Location of a model's files, and the name that the user gave."""

    name: str
    """Name as the user wrote it: a directory, an alias or a hub id."""
    directory: Path
    """Directory of the files on this machine."""
    repository: Repository | None = None
    """Hub repository with the revision that was fetched, if the model came from a hub."""
    weights: str | None = None
    """Weights file that the user chose, if the directory has several."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Options for loading a model; those that only the native library knows are passed through."""

    device: str = "cpu"
    dtype: str | None = None
    hub: Hub | None = None
    revision: str | None = None
    token: str | None = None
    cache_dir: Path | None = None
    weights: str | None = None
    """Name of the weights file in the directory; by default the one that the library would choose."""
    allow_unexpected: tuple[str, ...] = ()
    """Patterns of tensors in the file that may be left out of the model."""
    stream: bool = False
    """If true, the weights of the blocks stay on disk, for a model that is larger than memory: it can be compressed and
    saved, not run."""
    max_memory: int | None = None
    """Bytes that the process may use; a mixture of experts that needs more than half of them is streamed."""
    native: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for the library that builds the model."""

    def refuse_unknown(self, accepted: Iterable[str], library: str) -> None:
        """Refuse keyword arguments that the native library would ignore or fail on.

        Args:
            accepted: Names of those that it honors.
            library: Name of the library, for the error.

        Raises:
            UsageError: There are others; names them, with similar known names.
        """
        known = {*accepted, *(option.name for option in fields(self))} - {"native"}
        problems = []
        for name in sorted(set(self.native) - known):
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
            problems.append(f"{name} (did you mean {close[0]}?)" if close else name)
        if problems:
            raise UsageError(f"{library} has no such option: {', '.join(problems)}")


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
        tensors = {
            (tensor.data_ptr() or id(tensor)): tensor for tensor in self.module.state_dict(keep_vars=True).values()
        }
        return sum(tensor.nbytes for tensor in tensors.values())


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
