"""Errors as a small tree; every message says what failed, whose it is and what to do next."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from sottovoce.text.plain_text import one_line, shortened


class SottovoceError(Exception):
    """Base of every error that Sottovoce raises on purpose; its message is one line that any terminal can show.

    Attributes:
        exit_code: Exit code of the command line when the error reaches it.
        longest: Characters that the message is cut to, if it may quote untrusted text.
    """

    exit_code = 1
    longest: int | None = None

    def __init__(self, message: object = "") -> None:
        """Set the message, without characters that would control a terminal."""
        super().__init__(one_line(message, self.longest))


class UsageError(SottovoceError):
    """The call itself is wrong: an unknown name, a bad option, an output that exists."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe does not validate; the message lists every problem at once."""


class UnknownModelError(UsageError):
    """No installed plugin describes the model."""

    longest = 300


class PluginError(SottovoceError):
    """A plugin broke the contract; the message names the distribution."""


class SourceError(SottovoceError):
    """A model's files are missing, damaged, or ask for something that is refused."""

    longest = 300


class CheckpointError(SourceError):
    """Weights do not fit the model: missing, unexpected or misshapen tensors."""


class SamplesError(SottovoceError):
    """A manifest is broken; the message names the file and the line."""


class CoverageError(SottovoceError):
    """A step changed less of the model than its recipe promised."""


class ReloadError(SottovoceError):
    """A saved model, loaded again, does not give the same outputs."""


class OutputError(SottovoceError):
    """The output could not be written."""


class NotFiniteError(SottovoceError):
    """A weight or an activation is infinite or not a number; the message names the layer."""


class MemoryLimitError(UsageError):
    """The work does not fit the memory that was allowed."""


class CheckError(SottovoceError):
    """An engine does not run a model, its answers differ, or a limit is not held."""


class GateError(SottovoceError):
    """The accuracy that a recipe asks for cannot be reached, even with all layers restored to higher precision."""


class CancelledError(SottovoceError):
    """The caller of a transcription does not want it any more."""


class PublishError(SottovoceError):
    """A hub refused or could not be reached, or the model is not fit to be published."""


_NAME = re.compile(r"[^\W_][\w-]{0,59}")


def require_name(what: str, name: object, owner: str) -> None:
    """Check a name that a plugin gives: it stands in recipes, on the command line and in tables.

    Args:
        what: The kind of thing that is named, such as ``method``.
        name: Its name.
        owner: The module that it is from.

    Raises:
        PluginError: The name has characters other than letters, digits, ``_`` and ``-``, or is too long.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        shown = shortened(repr(name), 80)
        raise PluginError(
            f"the {what} {shown} of {owner}: a name has letters, digits, _ and - only, and at most 60 characters"
        )


@contextlib.contextmanager
def as_source_error(where: Path | str, what: str) -> Iterator[None]:
    """Turn every exception of the block into a :class:`SourceError`, except Sottovoce's own errors.

    Libraries check little of what they read, so a wrong file can cause any exception.

    Args:
        where: The directory or file that is read.
        what: The failure, as in ``the tokenizer cannot be read``.

    Raises:
        SourceError: The library failed; the cause is kept for ``--debug``.
        MemoryError: The machine has too little memory.
    """
    try:
        yield
    except (SottovoceError, MemoryError):
        raise
    except BaseException as error:
        # Some libraries end the process, and panics of those in Rust are not subclasses of Exception.
        if isinstance(error, Exception | SystemExit) or type(error).__name__ == "PanicException":
            raise SourceError(f"{where}: {what} ({reason(error)})") from error
        raise


def reason(error: BaseException) -> str:
    """Return a library's error as a short text on one line: its class and its message."""
    # The message of a KeyError is only the key; others have none.
    message = one_line(error, 140)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
