"""Standard streams that may be closed, full, or of an encoding that lacks characters."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from sottovoce.errors import OutputError


class ReaderGoneError(Exception):
    """Whoever read standard output needs no more of it, as ``head`` does; it is no fault."""


def open_closed() -> None:
    """Give the process the standard streams that it was started without.

    Else a file that is opened later would be standard output, and what a library prints there would go into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def show_any_character() -> None:
    """Escape what the terminal's encoding does not have: a result must not be lost for a character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Tell what goes wrong where a result is printed.

    Raises:
        ReaderGoneError: Nobody reads standard output any more.
        OutputError: It cannot be written, for instance since a disk is full.
    """
    try:
        yield
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"standard output could not be written ({reason}); all else was done") from error


def leave() -> None:
    """Write out what is left to print, where somebody reads it: Python would complain at the very end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
