"""Output directories that are complete or not there."""

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
"""Whether an existing directory may be replaced."""

_log = logging.getLogger("sottovoce")


@contextlib.contextmanager
def new_directory(
    path: str | Path, overwrite: bool = False, replaceable: Replaceable = is_written_by_us
) -> Iterator[Path]:
    """Give an empty temporary sibling of ``path``; rename it to ``path`` when the block ends well.

    On any failure, Ctrl-C included, the temporary directory is removed and ``path`` is as it was before.

    Args:
        path: The directory to write. Its parents are made.
        overwrite: Replace an existing directory, once the new one is complete.
        replaceable: Which directories may be replaced; what Sottovoce did not write never is.

    Raises:
        UsageError: ``path`` exists, and ``overwrite`` is false or it is not ``replaceable``.
        OutputError: The file system refused, a full disk for instance; or another run wrote ``path`` meanwhile, which
            stays, and the message says where this one's work is.
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
            raise OutputError(_what_failed(error, path, temporary)) from error
        finally:
            with held_back():
                remove(temporary)


@contextlib.contextmanager
def reserved(path: str | Path, overwrite: bool = False, replaceable: Replaceable = is_written_by_us) -> Iterator[None]:
    """Hold ``path`` for work that will write it: what is wrong with it is told now, and no other run writes it.

    Raises:
        UsageError: As :func:`refuse_existing`.
        OutputError: Another run holds it, which is named; or nothing can be written there.
    """
    path = Path(path)
    if is_claimed(path):
        # What comes during the work is not replaced, and the work is kept beside it.
        yield
        return
    refuse_existing(path, overwrite, replaceable)
    with claim(path):
        # What a killed run had set aside is back, or another run has ended since.
        refuse_existing(path, overwrite, replaceable)
        yield


def _what_failed(error: OSError, path: Path, temporary: Path) -> str:
    """Whose fault it is: the output's, or that of a file that was read for it."""
    reason = error.strerror or str(error)
    if isinstance(error.filename, str) and not Path(error.filename).absolute().is_relative_to(temporary.absolute()):
        return f"{error.filename}: {reason}; {path} was not written, and nothing was left behind"
    return f"{path}: could not be written, nothing was left behind ({reason})"


def refuse_existing(path: str | Path, overwrite: bool = False, replaceable: Replaceable = is_written_by_us) -> None:
    """Raise before any work is done when ``path`` may not be written.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is false, it is a file, we work in it, it is not
            ``replaceable``, or its name is no UTF-8.
        OutputError: The file system cannot tell: a name that is too long, a directory that may not be looked into.
    """
    path = Path(path)
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{path}: the name is no UTF-8, which a report is written in; give another output") from None
    try:
        exists = path.is_symlink() or path.exists()
        is_directory = path.is_dir() and not path.is_symlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    if exists and not is_directory:
        raise UsageError(f"{path}: exists and is no directory; give another output")
    if exists and not overwrite:
        raise UsageError(f"{path}: exists already; give another output, or --overwrite to replace it")
    if exists and _holds_working_directory(path):
        raise UsageError(f"{path}: is the working directory or holds it, and is not replaced; give another output")
    if exists and not replaceable(path):
        raise UsageError(
            f"{path}: is not empty and not of Sottovoce's writing, and is not replaced; give another output, or remove "
            "it yourself"
        )


def _holds_working_directory(path: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(path.resolve())
    except FileNotFoundError:  # It is gone.
        return False


def _place(temporary: Path, path: Path) -> None:
    """Rename to ``path``, which was not there before; what another run put there meanwhile is not replaced."""
    if not _taken(temporary, path):
        return
    places = (path.with_name(f"{path.name}-{number}") for number in range(2, 1000))
    kept = next((place for place in places if not _taken(temporary, place)), None)
    work = f"what this run made is in {kept}" if kept else "what this run made is lost"
    raise OutputError(f"{path}: was written by another run meanwhile, and is not replaced; {work}")


def _taken(temporary: Path, path: Path) -> bool:
    """Rename, unless something is there: the system looks and renames in one step."""
    if path.is_symlink() or path.exists():
        return True
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return True
        raise
    return False


def _replace(temporary: Path, path: Path) -> None:
    old = aside(path)
    path.rename(old)
    try:
        temporary.rename(path)
    except BaseException:
        old.rename(path)
        raise
    if problem := remove(old):
        _log.warning("%s: is replaced, but what was there could not be removed and lies in %s (%s)", path, old, problem)
