"""Output directories that are complete or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sottovoce.checkpoint.ownership import is_written_by_us
from sottovoce.errors import OutputError, UsageError

Replaceable = Callable[[Path], bool]
"""Whether an existing directory may be replaced."""


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
    refuse_existing(path, overwrite, replaceable)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        _remove_empty(made)
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        # mkdtemp is private to the user; a model directory has the permissions that mkdir gives.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        yield temporary
        if overwrite and (not path.is_dir() or replaceable(path)):
            _replace(temporary, path)
        else:
            _place(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path}: could not be written, nothing was left behind ({error.strerror or error})"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(made)


def refuse_existing(path: str | Path, overwrite: bool = False, replaceable: Replaceable = is_written_by_us) -> None:
    """Raise before any work is done when ``path`` may not be written.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is false, it is a file, we work in it, or it is not
            ``replaceable``.
        OutputError: The file system cannot tell: a name that is too long, a directory that may not be looked into.
    """
    path = Path(path)
    try:
        exists = path.is_symlink() or path.exists()
        is_directory = path.is_dir() and not path.is_symlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    if exists and not is_directory:
        raise UsageError(f"{path}: exists and is no directory; give another output")
    if exists and not overwrite:
        raise UsageError(f"{path}: exists already; give another output, or --overwrite to replace it")
    if exists and Path.cwd().is_relative_to(path.resolve()):
        raise UsageError(f"{path}: is the working directory or holds it, and is not replaced; give another output")
    if exists and not replaceable(path):
        raise UsageError(
            f"{path}: is not empty and not of Sottovoce's writing, and is not replaced; give another output, or remove "
            "it yourself"
        )


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
    if not path.exists():
        temporary.rename(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = aside / "old"
    try:
        path.rename(old)
        temporary.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _remove_empty(directories: list[Path]) -> None:
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()
