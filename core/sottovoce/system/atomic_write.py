"""Atomic writing of small text files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 text file completely or not at all, even if the power fails meanwhile.

    The text goes to a temporary file ``NAME.XXXXXXXX.part`` in the same directory, which is then renamed. An existing
    file is replaced, and its mode kept.

    Raises:
        OSError: The file system refused; an existing file is unchanged.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
