"""Claims on outputs: one run at a time writes an output, and removes the leftovers of killed runs."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sottovoce.checkpoint.lock_file import LockFile
from sottovoce.errors import OutputError
from sottovoce.system.interruption import held_back

_ASIDE = "old"
_log = logging.getLogger("sottovoce")


@dataclass
class _Holder:
    thread: int
    depth: int = 0


_holders: dict[Path, _Holder] = {}
"""Threads of this process that hold an output, by the output's path."""
_guard = threading.Lock()


@contextlib.contextmanager
def claim(path: Path) -> Iterator[None]:
    """Hold the right to write ``path``; a thread may claim it again while it holds it.

    The parents of ``path`` are created, and removed if they stay empty. Leftovers of killed runs next to it are
    removed; an output that such a run had set aside is restored.

    Raises:
        OutputError: Another process or thread holds it, which is named; or nothing can be written there.
    """
    place = path.absolute()
    with _guard:
        holder = _holders.setdefault(place, _Holder(threading.get_ident()))
        if holder.thread != threading.get_ident():
            raise OutputError(f"{path}: is being written by another thread of this process; give another output")
        holder.depth += 1
    try:
        with _locked(path) if holder.depth == 1 else contextlib.nullcontext():
            yield
    finally:
        with _guard:
            holder.depth -= 1
            if not holder.depth:
                del _holders[place]


def is_claimed(path: Path) -> bool:
    """Return true if this thread holds ``path``."""
    with _guard, contextlib.suppress(OSError):  # the working directory may be gone
        return (holder := _holders.get(path.absolute())) is not None and holder.thread == threading.get_ident()
    return False


def sibling(path: Path) -> Path:
    """Return a new hidden name next to ``path``, which the next run removes if this one is killed."""
    return _hidden(path, secrets.token_hex(4))


def aside(path: Path) -> Path:
    """Return a new hidden name for the old ``path`` during its replacement; the next run restores it if needed."""
    return _hidden(path, f"{secrets.token_hex(4)}.{_ASIDE}")


def _hidden(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}.sottovoce")


def remove(directory: Path) -> str | None:
    """Remove a directory with all its content, read-only folders included; return the problem if there is one."""
    for folder, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    missing: list[Path] = []
    lock = LockFile(_hidden(path, "lock"))
    try:
        try:
            missing += [parent for parent in path.parents if not parent.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                aside(path).lstat()  # the longest name that will be needed, which may be too long
            holder = lock.take()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
        if holder is not None:
            raise OutputError(f"{path}: is being written by {holder}; wait for it, or give another output")
        _clear(path)
        yield
    finally:
        with held_back():
            lock.release()
            for parent in missing:
                with contextlib.suppress(OSError):
                    parent.rmdir()


def _clear(path: Path) -> None:
    """Remove the leftovers of killed runs next to ``path``: nobody else writes there now."""
    name = re.compile(re.escape(f".{path.name}.") + rf"[0-9a-f]{{8}}(\.{_ASIDE})?\.sottovoce")
    with contextlib.suppress(OSError):
        for entry in sorted(path.parent.iterdir()):
            match = name.fullmatch(entry.name)
            if match is None or entry.is_symlink() or not entry.is_dir():
                continue
            if match[1] and not path.is_symlink() and not path.exists():
                entry.rename(path)
                _log.warning("%s: a run was killed while replacing it; the old one was restored", path)
            else:
                remove(entry)
