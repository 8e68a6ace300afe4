"""A file that one process at a time holds, and that says which."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import psutil

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class LockFile:
    """A file whose holder has the system's lock on it, which the system takes back when the process ends, however.

    Where a file system has no locks, what the file says of its holder counts.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it is made when it is taken, and removed when it is released."""
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> str | None:
        """Take the file, and return ``None``; or who holds it.

        Raises:
            OSError: It cannot be made.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                if not _is_free(descriptor):
                    return _name(_read(descriptor))
                if _is_at(descriptor, self._path):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, json.dumps(_this_process()).encode(), 0)
                    self._descriptor = descriptor
                    return None
                # Its holder ended, and removed it, after it was opened here.
            finally:
                if self._descriptor is None:
                    os.close(descriptor)

    def release(self) -> None:
        """Remove the file, and let go of it; nothing where it was not taken."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None


def _is_free(descriptor: int) -> bool:
    """Whether nobody holds the file, which is this process's then."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # The file system has no locks.
        else:
            return True
    return not _lives(_read(descriptor))


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, Any]:
    return {"process": os.getpid(), "started": psutil.Process().create_time(), "machine": platform.node()}


def _read(descriptor: int) -> dict[str, Any]:
    """What the file says of its holder; empty while it is not written."""
    try:
        form = json.loads(os.pread(descriptor, 1000, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return form if isinstance(form, dict) else {}


def _lives(holder: dict[str, Any]) -> bool:
    """Whether a process is there still; of another machine's nothing is known, and it counts as living."""
    if holder.get("machine") != platform.node():
        return bool(holder)
    try:
        started: float = psutil.Process(int(holder["process"])).create_time()
        return abs(started - float(holder["started"])) < 1
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _name(holder: dict[str, Any]) -> str:
    if not isinstance(holder.get("process"), int):
        return "another process"
    where = f" on {holder.get('machine')}" if holder.get("machine") != platform.node() else ""
    return f"process {holder['process']}{where}"
