"""What a library raises while it reads or runs what a repository brought: the repository's error, not a bug of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sottovoce.errors import SottovoceError, SourceError
from sottovoce.plain_text import one_line


@contextlib.contextmanager
def as_source_error(where: Path | str, what: str) -> Iterator[None]:
    """Turn whatever is raised meanwhile into one :class:`SourceError`, but for Sottovoce's own errors.

    Libraries check little of what they read, so a wrong file can end in any exception.

    Args:
        where: The directory or file that is read.
        what: What was tried, as in ``the tokenizer cannot be read``.

    Raises:
        SourceError: The library failed; the cause is kept for ``--debug``.
        MemoryError: The machine has too little memory.
    """
    try:
        yield
    except (SottovoceError, MemoryError):
        raise
    except BaseException as error:
        # Some libraries end the process, and those in Rust raise what is no Exception when they panic.
        if isinstance(error, Exception | SystemExit) or type(error).__name__ == "PanicException":
            raise SourceError(f"{where}: {what} ({reason(error)})") from error
        raise


def reason(error: BaseException) -> str:
    """Return a library's error as a short piece of one line: its kind, and what it says."""
    # A KeyError says the key alone, others say nothing at all.
    says = one_line(error, 140)
    return f"{type(error).__name__}: {says}" if says else type(error).__name__
