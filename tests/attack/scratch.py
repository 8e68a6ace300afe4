"""Where one case happens: the model, what lies beside it, and the traces that may be left."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from attack.watch import SECRET

MARKER = "RAN"
"""A file that hostile code leaves in the directory that :data:`VARIABLE` names."""
VARIABLE = "ATTACK_MARKS"


class Scratch:
    """A directory for one case, removed at the end.

    Attributes:
        base: The whole; what a child prints and answers lies here.
        model: The directory under attack.
        out: What a compression may write.
        outside: Holds what nobody may read or change.
        marks: Where hostile code leaves its marker.
        record: What a :class:`~attack.watch.Watch` saw.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """``name`` is what the model's directory is called."""
        self.base = Path(tempfile.mkdtemp(prefix="", dir=folder))
        self.model = Path(os.fsdecode(os.fsencode(self.base / "d") + b"/" + os.fsencode(name)))
        self.out, self.outside, self.marks = self.base / "o" / "out", self.base / "x", self.base / "k"
        for directory in (self.base / "d", self.out.parent, self.outside, self.marks):
            directory.mkdir()
        self.record = self.base / "seen"
        (self.outside / "secret.txt").write_text(f"{SECRET}\n", encoding="ascii")
        os.environ[VARIABLE] = str(self.marks)

    def __enter__(self) -> Scratch:
        """Begin."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Remove everything."""
        shutil.rmtree(self.base, ignore_errors=True)

    def remember(self) -> None:
        """Note what lies in the model's directory and outside, in the child, before anything is done with it."""
        (self.base / "before").write_text(self._state(), encoding="utf-8", errors="surrogateescape")

    def printed(self) -> str:
        """Return what the child printed; the first million characters."""
        with contextlib.suppress(OSError), (self.base / "printed").open(encoding="utf-8", errors="replace") as file:
            return file.read(1_000_000)
        return ""

    def faults(self, trial: Any) -> list[tuple[str, str]]:
        """Return what was left behind that should not be: the outcome and what is to be said of it.

        A process that did not end by itself has no :class:`~attack.trial.Trial` and may leave its output unfinished.
        """
        faults = []
        if ran := os.listdir(self.marks):  # noqa: PTH208  # links count too
            faults.append(("code ran", ", ".join(ran)))
        before = self.base / "before"
        if before.exists() and before.read_text(encoding="utf-8", errors="surrogateescape") != self._state():
            faults.append(("changed", "the model's directory, or what lies outside, is not as it was"))
        for path in sorted(self.out.parent.rglob("*")):
            if trial is not None and trial.status != "gave":
                faults.append(("left over", path.name))
            elif path.is_file() and (path.is_symlink() or SECRET.encode() in path.read_bytes()):
                faults.append(("leak", f"{path.name} holds what lies outside"))
        return faults

    def _state(self) -> str:
        lines = []
        for root in (self.model, self.outside):
            for folder, folders, files in os.walk(root):
                for name in sorted((*folders, *files)):
                    about = os.lstat(os.path.join(folder, name))  # noqa: PTH118  # names may be no text
                    lines.append(f"{os.path.join(folder, name)} {about.st_size} {about.st_mtime_ns}")  # noqa: PTH118
        return "\n".join(lines)
