"""Messages for unexpected errors: of the machine, of the user's files, or a bug."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from importlib import metadata

from sottovoce.plugins.host import GROUP
from sottovoce.text.plain_text import one_line

_MEMORY_ERRORS = (
    r"can't allocate|cannot allocate|unable to allocate|bad_alloc|bad allocation|not enough memory|"
    r"failed to map segment|cannot enable executable stack|mmap.* failed"
)
_SHORTAGES = (
    (
        re.compile(r"can't start new thread|thread creation failed|ThreadPoolBuild|Resource temporarily", re.I),
        "the system starts no more threads or processes for this user: end others, or raise the limit (ulimit -u)",
    ),
    (
        re.compile(_MEMORY_ERRORS, re.I),
        "the machine's memory, or the limit that is set on it (ulimit -v), is not enough for this model",
    ),
)
"""Patterns of libraries' messages when the system is short of a resource, with our message."""

_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def explain(error: BaseException) -> str:
    """Return a message on one line: what failed, whose it is and what to do."""
    for cause in _chain(error):
        if isinstance(cause, MemoryError):
            return "the machine's memory is not enough for this model"
        for pattern, shortage in _SHORTAGES:
            if pattern.search(str(cause)):
                return shortage
    if isinstance(error, OSError) and (problem := _of_the_system(error)):
        return problem
    owner = _plugin_of(error)
    advice = f"this is a bug of the plugin {owner}: report it to its authors" if owner else "this is a bug: report it"
    return f"{type(error).__name__}: {one_line(error, 300)}; {advice} with the output of --debug"


def _plugin_of(error: BaseException) -> str | None:
    """Return the distribution of the plugin whose code raised an error; ``None`` for core's."""
    packages = {entry.module.partition(".")[0]: entry for entry in metadata.entry_points(group=GROUP)}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if entry := packages.get(package):
            return one_line(entry.dist.name if entry.dist else entry.name, 80)
        if package == "sottovoce":
            return None
    return None


def _of_the_system(error: OSError) -> str | None:
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # tempfile's error has no file name, but lists the directories that it tried.
    if error.errno in _WRITING or "temporary directory" in str(error):
        return f"could not be written: {error.strerror or error}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
