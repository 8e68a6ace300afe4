"""What a process does that it should not: asks the network, reads or runs what is not its own to read or run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType
from typing import Any

SECRET = "CANARY-5b1d9c"
"""What lies in the file outside of the model's directory; nothing may show it."""

_SOCKETS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect", "socket.sendto")
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
_FOREIGN = ("/etc/passwd", "/etc/hostname", "/etc/shadow")


class Watch:
    """Python's audit events of this process, from now on: the hook cannot be taken away.

    Args:
        model: The directory under attack: what lies in it is read and never run.
        outside: A directory that nothing may read or write.
        processes: Whether other processes may be started.
    """

    def __init__(self, model: Path, outside: Path, *, processes: bool = False) -> None:
        self._model, self._outside, self._processes = os.fspath(model), os.fspath(outside), processes
        self.network: list[str] = []
        self.code: list[str] = []
        self.reading: list[str] = []

    def install(self) -> None:
        """Begin to watch."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._opened(arguments[0])
        elif event == "exec":
            code = arguments[0]
            if isinstance(code, CodeType) and code.co_filename.startswith(self._model):
                self.code.append(code.co_filename.removeprefix(self._model))
        elif event in _SOCKETS:
            self._asked(event, arguments)
        elif event in _PROCESSES and not self._processes:
            self.code.append(f"{event} {str(arguments)[:100]}")

    def _opened(self, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        try:
            real = os.path.realpath(os.fsdecode(path))
        except (OSError, ValueError):
            return
        if real in _FOREIGN or real.startswith(self._outside + os.sep):
            self.reading.append(real)

    def _asked(self, event: str, arguments: tuple[Any, ...]) -> None:
        import socket

        if event in ("socket.connect", "socket.sendto") and arguments[0].family == socket.AF_UNIX:
            return
        self.network.append(f"{event.removeprefix('socket.')} {str(arguments[-1 if event == 'socket.connect' else 0])}")
        raise OSError("no network here")
