"""Who writes an output: one run at a time, which clears away what killed runs left there."""

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
"""Who of this process's threads holds which output."""
_guard = threading.Lock()


@contextlib.contextmanager
def claim(path: Path) -> Iterator[None]:
    """Hold the right to write ``path``; the thread that holds it already enters again.

    Its parents are made, and removed where they stay empty. What runs that were killed left beside it is removed; an
    output that one of them had just set aside is put back.

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
    """Return whether this thread holds ``path``."""
    with _guard, contextlib.suppress(OSError):  # the working directory may be gone
        return (holder := _holders.get(path.absolute())) is not None and holder.thread == threading.get_ident()
    return False


def sibling(path: Path) -> Path:
    """Return a new hidden name beside ``path``, which the next run removes when this one is killed."""
    return _hidden(path, secrets.token_hex(4))


def aside(path: Path) -> Path:
    """Return a new hidden name for what ``path`` is until it is replaced; the next run puts it back."""
    return _hidden(path, f"{secrets.token_hex(4)}.{_ASIDE}")


def _hidden(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}.sottovoce")


def remove(directory: Path) -> str | None:
    """Remove a directory and all that is in it, with folders that may not be written; return what was in the way."""
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
                aside(path).lstat()  # the longest name that will be needed
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
    """Remove what runs left beside ``path`` that were killed: nobody else writes there now."""
    name = re.compile(re.escape(f".{path.name}.") + rf"[0-9a-f]{{8}}(\.{_ASIDE})?\.sottovoce")
    with contextlib.suppress(OSError):
        for entry in sorted(path.parent.iterdir()):
            match = name.fullmatch(entry.name)
            if match is None or entry.is_symlink() or not entry.is_dir():
                continue
            if match[1] and not path.is_symlink() and not path.exists():
                entry.rename(path)
                _log.warning("%s: a run was killed while it replaced this; it is as it was before", path)
            else:
                remove(entry)
