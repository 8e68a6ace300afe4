"""A case: one change to a copy of a model's directory, and what may come of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

Change = Callable[[Path], object]
"""What does something to a directory that holds a model."""


class Expect(Enum):
    """What may come of a case beside a clean refusal."""

    SAME = "the outputs of the honest model"
    REFUSED = "nothing: it must be refused"
    HARMLESS = "the outputs of the honest model, and no refusal"
    UNKNOWABLE = "any outputs: the files describe another model as well as this one"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One attack on one model."""

    kind: str
    """The table that it is from, such as ``weights``."""
    name: str
    model: str
    """The model and its form, such as ``aligner-int8``."""
    change: Change
    expect: Expect = Expect.SAME
    operations: tuple[str, ...] = ()
    """Those that may be run; all where it is empty."""
    inside: bool = False
    """Whether the working directory is the model's."""
    signed: bool | None = None
    """Whether the digests in ``compression.json`` are written anew, as a hostile publisher would; ``None`` draws it."""
    reported: bool = False
    """Whether this kind of fault was met once: every sample has it."""
    kernels: bool = False
    """Whether a package ``kernels`` is installed that would fetch code from a hub."""
    folder: str = "m"
    """What the directory is called."""

    @property
    def path(self) -> str:
        """What :option:`--only` takes."""
        return f"{self.kind}/{self.model}/{self.name}"

    def drawn(self, seed: int, what: str) -> random.Random:
        """Return random numbers that depend on the case and the seed alone."""
        return random.Random(f"{seed} {self.path} {what}")

    def operation(self, seed: int) -> str:
        """Return what is done with the model: mostly it is used."""
        copy = "save" if self.model.endswith(("-int8", "-int4")) else "compress"
        weights = {"predict": 14, "inspect": 3, copy: 3}
        allowed = [name for name in weights if name in (self.operations or weights)] or list(self.operations)
        return self.drawn(seed, "operation").choices(allowed, [weights.get(name, 1) for name in allowed])[0]

    def is_signed(self, seed: int) -> bool:
        """Return whether the digests are written anew."""
        return self.drawn(seed, "signed").random() < 0.75 if self.signed is None else self.signed
