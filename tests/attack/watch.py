"""What a process does that it should not: asks the network, reads or runs what is not its own to read or run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType
from typing import Any

SECRET = "CANARY-5b1d9c"
"""What lies in the file outside of the model's directory; nothing may show it."""

OUTCOMES = ("code ran", "leak", "network")
"""What is told, the worst first."""

_SOCKETS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect", "socket.sendto")
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
_FOREIGN = ("/etc/passwd", "/etc/hostname", "/etc/shadow")


class Watch:
    """Python's audit events of this process, from now on: the hook cannot be taken away.

    Args:
        model: The directory under attack: what lies in it is read and never run.
        outside: A directory that nothing may read or write.
        record: A file that gets a line for whatever happens, so that it outlives the process.
    """

    def __init__(self, model: Path, outside: Path, record: Path) -> None:
        self._model, self._outside = os.fspath(model), os.fspath(outside)
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def install(self) -> None:
        """Begin to watch."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._opened(arguments[0])
        elif event == "exec":
            code = arguments[0]
            if isinstance(code, CodeType) and code.co_filename.startswith(self._model):
                self._tell("code ran", code.co_filename.removeprefix(self._model))
        elif event in _SOCKETS:
            self._asked(event, arguments)
        elif event in _PROCESSES and not _is_own(event, arguments):
            self._tell("code ran", f"{event} {arguments}")

    def _opened(self, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        try:
            real = os.path.realpath(os.fsdecode(path))
        except (OSError, ValueError):
            return
        if real in _FOREIGN or real.startswith(self._outside + os.sep):
            self._tell("leak", f"{real} was opened")

    def _asked(self, event: str, arguments: tuple[Any, ...]) -> None:
        import socket

        if event in ("socket.connect", "socket.sendto") and arguments[0].family == socket.AF_UNIX:
            return
        self._tell("network", f"{event.removeprefix('socket.')} {arguments[-1 if event == 'socket.connect' else 0]}")
        raise OSError("no network here")

    def _tell(self, outcome: str, what: str) -> None:
        os.write(self._record, f"{outcome}\t{ascii(what)[:200]}\n".encode())


def _is_own(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a process is one of Sottovoce's: Python with one of its modules, in the present directory."""
    if event != "subprocess.Popen":
        return False
    _, command, directory, _ = arguments
    words = [os.fsdecode(word) for word in command] if isinstance(command, list | tuple) else []
    modules = [word for before, word in zip(words, words[1:], strict=False) if before == "-m"]
    return (
        words[:1] == [sys.executable]
        and directory is None
        and modules[:1] != []
        and modules[0].startswith("sottovoce.")
    )


def told(record: Path) -> list[tuple[str, str]]:
    """Return what a watch recorded: the outcome and what is to be said of it, the worst first."""
    lines = record.read_text(encoding="ascii").splitlines() if record.is_file() else []
    parts = [line.partition("\t") for line in lines]
    return sorted({(outcome, what) for outcome, _, what in parts}, key=lambda item: (OUTCOMES.index(item[0]), item[1]))
