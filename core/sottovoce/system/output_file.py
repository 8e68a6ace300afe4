"""An output file: what may be replaced, and writing it whole."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from sottovoce.errors import OutputError, UsageError

_START = 1000
"""Characters of a file that are looked at."""


@dataclass(frozen=True)
class OutputKind:
    """A kind of output, which a later run may replace."""

    name: str
    """Kind with its article, such as ``an alignment``."""
    verb: str
    """Participle for the file that was read, such as ``aligned``."""
    endings: Collection[str]
    """Endings of its files' names, without the dot."""
    beginning: re.Pattern[str]
    """Expression that matches the beginning of its files, for those of another name."""

    def refuse_existing(self, path: Path, overwrite: bool, sources: Iterable[Path | None]) -> None:
        """Refuse an output that exists, unless it may be replaced.

        Args:
            path: The output.
            overwrite: If true, a result of an earlier run may be replaced.
            sources: Files that are read, which nothing replaces.

        Raises:
            OutputError: The output cannot be written.
            UsageError: It exists, and is not replaced.
        """
        try:
            is_directory, is_file, exists = path.is_dir(), path.is_file(), path.exists()
            is_source = exists and any(source and source.exists() and path.samefile(source) for source in sources)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
        if is_directory:
            raise UsageError(f"{path}: is a directory; give a file")
        if exists and not overwrite:
            raise UsageError(f"{path}: exists already; give another output, or --overwrite to replace it")
        if is_source:
            raise UsageError(f"{path}: is what is {self.verb}, and is not replaced; give another output")
        if exists and not is_file:
            raise UsageError(f"{path}: is not a file but a device or a pipe; leave --output out for standard output")
        if exists and not self._is_of_this_kind(path):
            raise UsageError(
                f"{path}: is not {self.name} by its name or content, and is not replaced; give another output, "
                "or remove it"
            )

    def _is_of_this_kind(self, path: Path) -> bool:
        """Return true if a file may be replaced: by its name, or by its first characters."""
        if path.suffix.lower().removeprefix(".") in self.endings:
            return True
        try:
            with path.open(encoding="utf-8") as file:
                start = file.read(_START)
        except (OSError, UnicodeDecodeError):
            return False
        return not start or self.beginning.match(start) is not None


def refuse_unwritable(path: Path) -> None:
    """Refuse a file whose directory cannot be made or written, before the work whose result it gets.

    Raises:
        OutputError: It could not be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"{path}: could not be written ({path.parent} is not a directory)") from None
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error.strerror or error})") from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: could not be written (no permission in {path.parent})")
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; give a file")
    if path.exists() and not os.access(path, os.W_OK):
        raise OutputError(f"{path}: could not be written (no permission)")


def write(path: Path, text: str, overwrite: bool) -> None:
    """Write a file beside its place, and rename it when it is whole.

    Raises:
        OutputError: It could not be written, or another run wrote a file there meanwhile.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        _place(temporary, path, overwrite)
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _place(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        # A link, unlike a new name, is refused where there is something already.
        os.link(temporary, path)
    except FileExistsError:
        raise OutputError(
            f"{path}: was written by another run meanwhile, and is not replaced; this run's result is lost: "
            "give another output, or --overwrite"
        ) from None
    except OSError:  # a file system without links
        temporary.replace(path)
