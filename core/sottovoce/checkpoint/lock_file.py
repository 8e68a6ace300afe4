"""Lock file that one process at a time holds, and that names its holder."""

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
    """File whose holder has the system's lock on it; the system releases it when the process ends in any way.

    If a file system has no locks, the holder named in the file counts.
    """

    def __init__(self, path: Path) -> None:
        """Name the file, which is created by :meth:`take` and removed by :meth:`release`."""
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> str | None:
        """Take the file and return ``None``, or return the name of its holder.

        Raises:
            OSError: The file cannot be created.
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
                # Its holder ended and removed it after it was opened here.
            finally:
                if self._descriptor is None:
                    os.close(descriptor)

    def release(self) -> None:
        """Remove the file and release the lock, if it was taken."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None


def _is_free(descriptor: int) -> bool:
    """Lock the file if nobody holds it, and return true if this process holds it now."""
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
    """Read the holder from the file; empty while it is not written."""
    try:
        form = json.loads(os.pread(descriptor, 1000, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return form if isinstance(form, dict) else {}


def _lives(holder: dict[str, Any]) -> bool:
    """Return true if the holder still runs; a process of another machine counts as running."""
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
