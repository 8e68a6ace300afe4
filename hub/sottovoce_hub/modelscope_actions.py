"""Actions of a commit on ModelScope."""

from __future__ import annotations

import base64
import hashlib
from pathlib import PurePosixPath
from typing import IO, Any

from sottovoce.errors import PublishError
from sottovoce_hub.destination import File

MOST = 256
"""Actions of one commit; ModelScope refuses some thousands."""

INLINE_SIZE = 64 * 1024
"""Bytes up to which a text goes into the commit itself, and not to the store of large files."""

INLINE_NAMES = frozenset(
    {"readme.md", ".gitattributes", ".gitignore", "config.json", "configuration.json", "configuration.yaml"}
)
"""Files that ModelScope reads itself, in lower case; of a large file it would read the pointer to the store."""


class Reading:
    """A file that is hashed as it is read: what goes up is what was said to go up."""

    def __init__(self, file: File, stream: IO[bytes]) -> None:
        self._file = file
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes."""
        piece = self._stream.read(size)
        self._digest.update(piece)
        return piece

    def check(self) -> None:
        """Compare what was read with what the file was.

        Raises:
            PublishError: The file has changed since it was hashed.
        """
        if self._digest.hexdigest() != self._file.sha256:
            raise PublishError(
                f"{self._file.name}: has changed since the push began; push again when nothing writes to it any more"
            )


def is_inline(file: File) -> bool:
    """Return true if a file goes into the commit itself, by the rules of ModelScope's client."""
    from modelscope_hub.constants import MODEL_LFS_SUFFIX

    path = PurePosixPath(file.name)
    if path.name.lower() in INLINE_NAMES or not file.size:
        return True
    return file.size <= INLINE_SIZE and path.suffix.lower() not in MODEL_LFS_SUFFIX


def addition(file: File) -> dict[str, Any]:
    """Return the action that adds a file, or replaces it."""
    form = {"action": "create", "path": file.name, "size": file.size}
    if not is_inline(file):
        return form | {"type": "lfs", "sha256": file.sha256, "content": "", "encoding": ""}
    content = file.content
    if not isinstance(content, bytes):
        with content.open("rb") as stream:
            reading = Reading(file, stream)
            content = reading.read()
        reading.check()
    text = base64.b64encode(content).decode("ascii")
    return form | {"type": "normal", "sha256": "", "content": text, "encoding": "base64"}


def deletion(name: str) -> dict[str, Any]:
    """Return the action that deletes a file."""
    form = {"action": "delete", "path": name, "type": "normal", "size": 0}
    return form | {"sha256": "", "content": "", "encoding": ""}
