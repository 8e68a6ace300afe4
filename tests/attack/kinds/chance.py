"""Damage at random: as many cases as are asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from attack import settings
from attack.case import Case, Change, Expect
from attack.kinds.configurations import VALUES
from attack.model import HonestModel

KIND = "chance"

Damage = Callable[[random.Random, Path], None]


def _file(drawn: random.Random, directory: Path) -> Path:
    names = sorted(path.name for path in directory.iterdir() if path.is_file() and path.name not in ("training.json",))
    return directory / drawn.choice(names)


def _settings(drawn: random.Random, directory: Path) -> Path:
    names = [path.name for path in directory.iterdir() if path.suffix in (".json", ".yaml") and path.is_file()]
    return directory / drawn.choice(sorted(set(names) - {"training.json", "tokens.json"}))


def flip(drawn: random.Random, directory: Path) -> None:
    """Turn some bits of a file."""
    path = _file(drawn, directory)
    data = bytearray(path.read_bytes())
    for _ in range(drawn.choice((1, 1, 2, 8, 64)) if data else 0):
        # Half of them at the start, where what matters stands.
        place = drawn.randrange(len(data) if drawn.random() < 0.5 else min(len(data), 2_000))
        data[place] ^= 1 << drawn.randrange(8)
    path.write_bytes(data)


def cut(drawn: random.Random, directory: Path) -> None:
    """Take the end of a file away, or a piece out of it."""
    path = _file(drawn, directory)
    data = path.read_bytes()
    start = drawn.randrange(len(data) + 1)
    end = len(data) if drawn.random() < 0.5 else min(len(data), start + drawn.randrange(1, 200))
    path.write_bytes(data[:start] + data[end:])


def insert(drawn: random.Random, directory: Path) -> None:
    """Put something into a file."""
    path = _file(drawn, directory)
    data = path.read_bytes()
    place = drawn.randrange(len(data) + 1)
    pieces = (
        b"\0",
        b"\xff" * 7,
        b"\n",
        b'"',
        b"}",
        b"[" * 1000,
        b"\x1b[31m",
        b"9" * 40,
        b"-",
        b"null",
        drawn.randbytes(9),
    )
    path.write_bytes(data[:place] + drawn.choice(pieces) + data[place:])


def exchange(drawn: random.Random, directory: Path) -> None:
    """Put one file in another's place."""
    path, other = _file(drawn, directory), _file(drawn, directory)
    path.write_bytes(other.read_bytes())


def forget(drawn: random.Random, directory: Path) -> None:
    """Take settings out."""
    path = _settings(drawn, directory)
    form = settings.read(path)
    for _ in range(drawn.randint(1, 4)):
        if places := list(settings.places(form)):
            settings.drop(form, drawn.choice(places))
    settings.write(path, form)


def swap(drawn: random.Random, directory: Path) -> None:
    """Exchange two values of a file of settings."""
    path = _settings(drawn, directory)
    form = settings.read(path)
    places = [keys for keys in settings.places(form) if not isinstance(settings.get(form, keys), dict)]
    one, other = drawn.sample(places, 2)
    first, second = settings.get(form, one), settings.get(form, other)
    settings.put(form, one, second)
    settings.put(form, other, first)
    settings.write(path, form)


def alter(drawn: random.Random, directory: Path) -> None:
    """Give settings values that they cannot have."""
    path = _settings(drawn, directory)
    form = settings.read(path)
    for _ in range(drawn.randint(1, 3)):
        if places := list(settings.places(form)):
            settings.put(form, drawn.choice(places), drawn.choice(list(VALUES.values())))
    settings.write(path, form)


def remove(drawn: random.Random, directory: Path) -> None:
    """Take files away."""
    for _ in range(drawn.randint(1, 2)):
        _file(drawn, directory).unlink()


DAMAGES: Mapping[str, Damage] = {
    "flip": flip,
    "cut": cut,
    "insert": insert,
    "exchange": exchange,
    "forget": forget,
    "swap": swap,
    "alter": alter,
    "remove": remove,
}
"""By name; flips are the most."""


def cases(models: Sequence[HonestModel], seed: int) -> Iterator[Case]:
    """Yield damage without end: one, two or three kinds of it, one after the other."""
    number = 0
    while True:
        drawn = random.Random(f"{seed} chance {number}")
        model = drawn.choice(models)
        names = drawn.choices(["flip", *DAMAGES], k=drawn.choice((1, 1, 1, 2, 3)))
        name = f"{seed}-{number}/{'+'.join(names)}"
        change = _change(seed, number, names)
        yield Case(kind=KIND, name=name, model=model.name, change=change, expect=Expect.UNKNOWABLE)
        number += 1


def _change(seed: int, number: int, names: Sequence[str]) -> Change:
    def apply(directory: Path) -> None:
        drawn = random.Random(f"{seed} damage {number}")
        for name in names:
            try:
                DAMAGES[name](drawn, directory)
            except Exception:
                continue  # What was damaged before cannot be damaged in this way.

    return apply
