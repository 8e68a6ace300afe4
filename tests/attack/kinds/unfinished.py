"""Finished blocks of a compression that goes on, damaged: what comes of it is what would have come of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.operation import resume

KIND = "unfinished"

Damage = Callable[[Path], object]


def _blocks(work: Path) -> list[Path]:
    return sorted(work.rglob("*.safetensors"))


def _facts(work: Path) -> list[Path]:
    return [path.with_suffix(".json") for path in _blocks(work)]


def _flip(work: Path) -> None:
    for path in _blocks(work)[:1]:
        data = bytearray(path.read_bytes())
        data[-7] ^= 64
        path.write_bytes(data)


def _zeros(work: Path) -> None:
    for path in _blocks(work):
        data = path.read_bytes()
        header = 8 + int.from_bytes(data[:8], "little")
        path.write_bytes(data[:header] + bytes(len(data) - header))


def _swap(work: Path) -> None:
    one, other = _blocks(work)[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _cut(work: Path) -> None:
    for path in _blocks(work):
        path.write_bytes(path.read_bytes()[:-100])


def _all(text: str) -> Damage:
    return lambda work: [path.write_text(text, encoding="utf-8") for path in _facts(work)]


DAMAGES: Mapping[str, Damage] = {
    "whole": lambda work: None,
    "one bit": _flip,
    "zeros": _zeros,
    "swapped": _swap,
    "cut": _cut,
    "empty": lambda work: [path.write_bytes(b"") for path in _blocks(work)],
    "facts empty": _all(""),
    "facts of nothing": _all("{}"),
    "facts a list": _all("[]"),
    "facts null": _all("null"),
    "facts deep": _all("[" * 100_000),
    "facts missing": lambda work: [path.unlink() for path in _facts(work)],
    "half of the blocks": lambda work: [path.unlink() for path in _blocks(work)[::2]],
    "a key of nothing": lambda work: [path.write_bytes(b"") for path in work.rglob("key.json")],
}
"""By name, what is done to the blocks."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield every damage of the blocks of plain models that are compressed on samples."""
    if model.name not in ("paraformer", "aligner"):
        return
    for what, damage in DAMAGES.items():
        yield Case(
            kind=KIND,
            name=what,
            model=model.name,
            change=_left(damage),
            operations=("resume",),
            expect=Expect.SAME,
            reported=what in ("one bit", "facts of nothing"),
        )


def _left(damage: Damage) -> Change:
    """Do the work, so that its blocks are there, and damage them."""

    def apply(directory: Path) -> None:
        base = directory.parents[1]
        resume(str(directory), base / "o" / "out")
        shutil.rmtree(base / "o" / "out")
        damage(base / "w")

    return apply
