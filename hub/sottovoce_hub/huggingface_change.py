"""Changes of a commit on the Hugging Face Hub, and the check that they were made."""

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
    """Files that one commit adds and removes, and its message."""

    additions: Sequence[File]
    deletions: Sequence[str]
    message: str

    def operations(self) -> list[CommitOperationAdd | CommitOperationDelete]:
        """Return the form that the client takes; it notes there what it has uploaded."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        removed = [CommitOperationDelete(name, is_folder=False) for name in self.deletions]
        return [*removed, *(CommitOperationAdd(file.name, file.content) for file in self.additions)]

    def missing(self, survey: Survey) -> list[str]:
        """Return the files that differ from the commit in a survey of ``additions``."""
        unlike = [file.name for file in self.additions if file.name not in survey.unchanged]
        return [*unlike, *sorted(survey.names.intersection(self.deletions))]


def compare(listing: Iterable[RepoFile | RepoFolder], files: Sequence[File]) -> Survey:
    """Compare what the hub lists with ``files``."""
    from huggingface_hub import RepoFile

    there = {entry.path: entry for entry in listing if isinstance(entry, RepoFile)}
    unchanged = (file.name for file in files if file.name in there and _is_same(file, there[file.name]))
    return Survey(names=frozenset(there), unchanged=frozenset(unchanged))


def _is_same(file: File, entry: RepoFile) -> bool:
    """Compare a file by the sha256 that the hub has of large files, and by git's digest of others."""
    if entry.lfs is not None:
        return entry.lfs.sha256 == file.sha256
    if entry.size != file.size:
        return False
    content = file.content.read_bytes() if isinstance(file.content, Path) else file.content
    return entry.blob_id == hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
