"""Standard streams that may be closed, full, or of an encoding that lacks characters."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from sottovoce.errors import OutputError


class ReaderGoneError(Exception):
    """The reader of standard output has stopped reading, as ``head`` does; this is not an error."""


def open_closed() -> None:
    """Open the standard streams that the process was started without.

    Otherwise a file that is opened later could become standard output, and libraries would print into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def show_any_character() -> None:
    """Escape characters that the terminal's encoding lacks, so that no result is lost."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Turn errors of standard output during the block into ours.

    Raises:
        ReaderGoneError: Nobody reads standard output any more.
        OutputError: It cannot be written, for instance because a disk is full.
    """
    try:
        yield
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"standard output could not be written ({reason}); everything else was done") from error


def leave() -> None:
    """Flush the standard streams, and discard what nobody reads: Python would report an error at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
