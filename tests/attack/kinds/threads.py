"""Loads that happen at once: each gives its model or its refusal, and the process stays what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.settings import replaced, with_value

KIND = "threads"


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield the honest model and damaged ones, each loaded in two threads."""
    changes: dict[str, tuple[Change, Expect]] = {
        "honest": (_nothing, Expect.HARMLESS),
        "no weights": (replaced(model.weights, b""), Expect.REFUSED),
        "code": (with_value(model.config, ("trust_remote_code",), True), Expect.SAME),
        "another class": (with_value(model.config, ("architectures",), ["nonsense"]), Expect.SAME),
    }
    for what, (change, expect) in changes.items():
        yield Case(kind=KIND, name=what, model=model.name, change=change, operations=("together",), expect=expect)


def _nothing(directory: Path) -> None:
    pass
