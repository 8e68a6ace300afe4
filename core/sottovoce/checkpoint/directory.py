"""Atomic output directories: complete or absent."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from sottovoce.checkpoint.claim import aside, claim, is_claimed, remove, sibling
from sottovoce.checkpoint.ownership import is_written_by_us
from sottovoce.errors import OutputError, UsageError
from sottovoce.system.interruption import held_back

Replaceable = Callable[[Path], bool]
"""Function that returns true if an existing directory may be replaced."""

_log = logging.getLogger("sottovoce")


@contextlib.contextmanager
def new_directory(
    path: str | Path, overwrite: bool = False, replaceable: Replaceable = is_written_by_us
) -> Iterator[Path]:
    """Give an empty temporary sibling of ``path``, which is renamed to ``path`` when the block succeeds.

    On any failure, Ctrl-C included, the temporary directory is removed and ``path`` is unchanged.

    Args:
        path: The directory to write. Its parents are created.
        overwrite: If true, an existing directory is replaced once the new one is complete.
        replaceable: Test of directories that may be replaced; by default those that Sottovoce wrote.

    Raises:
        UsageError: ``path`` exists, and ``overwrite`` is false or it is not ``replaceable``.
        OutputError: The file system refused, a full disk for instance; or another run wrote ``path`` meanwhile, which
            stays, and the message says where this run's result is.
    """
    path = Path(path)
    with reserved(path, overwrite, replaceable):
        temporary = sibling(path)
        try:
            temporary.mkdir()
            yield temporary
            with held_back():
                if overwrite and path.is_dir() and not path.is_symlink() and replaceable(path):
                    _replace(temporary, path)
                else:
                    _place(temporary, path)
        except OSError as error:
            raise OutputError(_failure(error, path, temporary)) from error
        finally:
            with held_back():
                remove(temporary)


@contextlib.contextmanager
def reserved(path: str | Path, overwrite: bool = False, replaceable: Replaceable = is_written_by_us) -> Iterator[None]:
    """Reserve ``path`` for the block: it is checked before any work, and no other run can write it.

    Raises:
        UsageError: As :func:`refuse_existing`.
        OutputError: Another run has reserved it, which is named; or nothing can be written there.
    """
    path = Path(path)
    if is_claimed(path):
        # A directory that appears during the work is not replaced; the result is written next to it.
        yield
        return
    refuse_existing(path, overwrite, replaceable)
    with claim(path):
        # A killed run's backup may have been restored, or another run may have ended since.
        refuse_existing(path, overwrite, replaceable)
        yield


def _failure(error: OSError, path: Path, temporary: Path) -> str:
    """Return a message that blames the output, or a file that was read for it."""
    reason = error.strerror or str(error)
    if isinstance(error.filename, str) and not Path(error.filename).absolute().is_relative_to(temporary.absolute()):
        return f"{error.filename}: {reason}; {path} was not written, and nothing was left behind"
    return f"{path}: could not be written, nothing was left behind ({reason})"


def refuse_existing(path: str | Path, overwrite: bool = False, replaceable: Replaceable = is_written_by_us) -> None:
    """Raise an error, before any work is done, if ``path`` may not be written.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is false, it is a file, it holds the working directory, it is not
            ``replaceable``, or its name is not valid UTF-8.
        OutputError: The file system cannot tell: the name is too long, or its directory is not readable.
    """
    path = Path(path)
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{path}: the name is not valid UTF-8, as reports are; give another output") from None
    try:
        exists = path.is_symlink() or path.exists()
        is_directory = path.is_dir() and not path.is_symlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    if exists and not is_directory:
        raise UsageError(f"{path}: exists and is not a directory; give another output")
    if exists and not overwrite:
        raise UsageError(f"{path}: exists already; give another output, or --overwrite to replace it")
    if exists and _holds_working_directory(path):
        raise UsageError(f"{path}: is the working directory or holds it, and is not replaced; give another output")
    if exists and not replaceable(path):
        raise UsageError(
            f"{path}: is not empty and was not written by Sottovoce, and is not replaced; give another output, or "
            "remove it yourself"
        )


def _holds_working_directory(path: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(path.resolve())
    except FileNotFoundError:  # the working directory was removed
        return False


def _place(temporary: Path, path: Path) -> None:
    """Rename to ``path``, or to a name next to it if another run has written ``path`` meanwhile.

    Raises:
        OutputError: Another run has written it; says where this run's result is.
    """
    if _renamed(temporary, path):
        return
    places = (path.with_name(f"{path.name}-{number}") for number in range(2, 1000))
    place = next((place for place in places if _renamed(temporary, place)), None)
    result = f"this run's result is in {place}" if place else "this run's result is lost"
    raise OutputError(f"{path}: was written by another run meanwhile, and is not replaced; {result}")


def _renamed(temporary: Path, path: Path) -> bool:
    """Rename if nothing exists at ``path``; return false otherwise. The system checks and renames in one step."""
    if path.is_symlink() or path.exists():
        return False
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _replace(temporary: Path, path: Path) -> None:
    old = aside(path)
    path.rename(old)
    try:
        temporary.rename(path)
    except BaseException:
        old.rename(path)
        raise
    if problem := remove(old):
        _log.warning("%s: was replaced, but the old directory could not be removed from %s (%s)", path, old, problem)
