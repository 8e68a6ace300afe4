"""Origin of a directory that a hub's own client fetched, by what the client leaves there."""

from __future__ import annotations

import re
from pathlib import Path

from sottovoce.source import Repository

_SNAPSHOT = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)")
"""Name of a repository's directory in the cache of huggingface-hub."""
_REVISION = re.compile(r"[0-9a-f]{40}")
_LEFT_BY_MODELSCOPE = (".msc", ".mv", ".mdl")
"""Files that modelscope leaves in a repository's directory. Two of them are pickles, so they are never read."""
_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)


def downloaded_from(directory: Path) -> Repository | None:
    """Return the repository that a directory was fetched from; ``None`` if nothing tells.

    ``.../models--OWNER--NAME/snapshots/REVISION`` is a snapshot in the cache of huggingface-hub; a directory
    ``.../OWNER/NAME`` with modelscope's own files in it was fetched by modelscope.
    """
    directory = directory.absolute()
    snapshot = _SNAPSHOT.fullmatch(directory.parent.parent.name)
    if snapshot and directory.parent.name == "snapshots" and _REVISION.fullmatch(directory.name):
        return Repository(id=f"{snapshot['owner']}/{snapshot['name']}", hub="hf", revision=directory.name)
    if any((directory / name).is_file() for name in _LEFT_BY_MODELSCOPE):
        # modelscope writes three underscores for a dot in a directory's name.
        owner, name = directory.parent.name, directory.name.replace("___", ".")
        if _NAME.fullmatch(owner) and _NAME.fullmatch(name):
            return Repository(id=f"{owner}/{name}", hub="modelscope", revision=_modelscope_revision(directory / ".mv"))
    return None


def _modelscope_revision(path: Path) -> str | None:
    """Return the revision in a file such as ``Revision:master,CreatedAt:1690000000``."""
    try:
        match = re.match(r"Revision:([\w./-]{1,100})", path.read_text(encoding="utf-8")[:200])
    except (OSError, UnicodeDecodeError):
        return None
    return match[1] if match else None
