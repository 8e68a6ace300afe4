"""Output directories that are complete or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sottovoce.errors import OutputError, UsageError


@contextlib.contextmanager
def new_directory(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty temporary sibling of ``path``; rename it to ``path`` when the block ends well.

    On any failure, Ctrl-C included, the temporary directory is removed and ``path`` is as it was before.

    Args:
        path: The directory to write. Its parents are made.
        overwrite: Replace an existing directory, once the new one is complete.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is false.
        OutputError: The file system refused, a full disk for instance.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        # mkdtemp is private to the user; a model directory has the permissions that mkdir gives.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        yield temporary
        _replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path}: could not be written, nothing was left behind ({error.strerror or error})"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: str | Path, overwrite: bool = False) -> None:
    """Raise before any work is done when ``path`` may not be written.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is false, or it is a file.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UsageError(f"{path}: exists and is no directory; give another output")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: exists already; give another output, or --overwrite to replace it")


def _replace(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
