"""Engines for tests: their answers are the samples' own texts, or wrong, or none."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sottovoce import Engine, Prediction, Sample
from sottovoce.errors import SourceError


class Toy(Engine):
    """Gives back what the sample says."""

    def fits(self, directory: Path) -> bool:
        return (directory / "toy.txt").is_file()

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        return lambda sample: Prediction(text=sample.text, tokens=tuple(sample.text or ""))


class Right(Toy):
    name = "toy-right"


class Wrong(Toy):
    name = "toy-wrong"

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        return lambda sample: Prediction(text=(sample.text or "")[1:], tokens=tuple((sample.text or "")[1:]))


class Slow(Toy):
    name = "toy-slow"

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        def run(sample: Sample) -> Prediction:
            time.sleep(0.05)
            return Prediction(text=sample.text, tokens=tuple(sample.text or ""))

        return run


class Broken(Toy):
    name = "toy-broken"

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        raise SourceError(f"{directory.name}: a toy breaks")


class Crashing(Toy):
    name = "toy-crashing"

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        raise ZeroDivisionError("a library's own error")


class Absent(Toy):
    name = "toy-absent"
    packages = ("no-such-distribution",)
