"""What a commit on the Hugging Face Hub changes, and whether a listing shows that it did."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce_hub.destination import File, Survey

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, RepoFile, RepoFolder


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one commit adds and removes, and its message."""

    additions: Sequence[File]
    deletions: Sequence[str]
    message: str

    def operations(self) -> list[CommitOperationAdd | CommitOperationDelete]:
        """The form that the client takes; it notes there what it has uploaded."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        removed = [CommitOperationDelete(name, is_folder=False) for name in self.deletions]
        return [*removed, *(CommitOperationAdd(file.name, file.content) for file in self.additions)]

    def missing(self, survey: Survey) -> list[str]:
        """The files that a survey of ``additions`` shows to be other than the commit makes them."""
        unlike = [file.name for file in self.additions if file.name not in survey.unchanged]
        return [*unlike, *sorted(survey.names.intersection(self.deletions))]


def compare(listing: Iterable[RepoFile | RepoFolder], files: Sequence[File]) -> Survey:
    """What the hub lists, compared with ``files``."""
    from huggingface_hub import RepoFile

    there = {entry.path: entry for entry in listing if isinstance(entry, RepoFile)}
    unchanged = (file.name for file in files if file.name in there and _is_same(file, there[file.name]))
    return Survey(names=frozenset(there), unchanged=frozenset(unchanged))


def _is_same(file: File, entry: RepoFile) -> bool:
    """The hub tells a large file's sha256, and git's own digest of the others."""
    if entry.lfs is not None:
        return entry.lfs.sha256 == file.sha256
    if entry.size != file.size:
        return False
    content = file.content.read_bytes() if isinstance(file.content, Path) else file.content
    return entry.blob_id == hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
