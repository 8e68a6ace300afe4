"""Place where a model is published: the interface of all hubs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to publish."""

    name: str
    """Its path in the repository, with forward slashes."""
    content: Path | bytes
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, content: Path | bytes, sha256: str | None = None) -> File:
        """Measure a file, and hash it where its digest is not known."""
        if isinstance(content, bytes):
            return cls(name=name, content=content, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        if sha256 is None:
            with content.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(name=name, content=content, size=content.stat().st_size, sha256=sha256)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Files of a branch of a repository, compared with those that should be there."""

    names: frozenset[str] = field(default_factory=frozenset)
    """Every file of the branch."""
    unchanged: frozenset[str] = field(default_factory=frozenset)
    """The files that are there with the very content that would be uploaded."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Result of a push."""

    url: str
    """Page to look at: the repository's branch, or the pull request."""
    revision: str | None
    """The commit's id, where the hub tells it."""
    pull_request: str | None = None
    """The pull request's page."""


class Destination(Protocol):
    """One branch of one repository on a hub.

    Every method raises :class:`~sottovoce.errors.PublishError` when the hub refuses or cannot be reached: one line with
    what failed, whose it is and what to do next. Nothing in it holds a token.
    """

    repository: str
    """``owner/name``."""
    branch: str

    @property
    def hub(self) -> str:
        """``hf`` or ``modelscope``."""
        ...

    @property
    def url(self) -> str:
        """The page of the branch."""
        ...

    def survey(self, files: Sequence[File]) -> Survey:
        """Look at the branch without changing anything; a repository or branch that is not there holds nothing."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return the content of a small text file of the branch, or ``None`` when it is not there."""
        ...

    def create(self, private: bool | None) -> bool:
        """Make the repository and the branch where they are missing.

        Args:
            private: If true, a new repository is private; ``None`` leaves it to the hub. One that is there already
                keeps what it is.

        Returns:
            True if the repository was created.
        """
        ...

    def commit(
        self, additions: Sequence[File], deletions: Sequence[str], message: str, *, create_pr: bool = False
    ) -> Commit:
        """Upload and commit, in one commit where the hub can.

        What an interrupted call has uploaded is not uploaded again by the next.
        """
        ...

    def collect(self, title: str, repositories: Sequence[str]) -> str | None:
        """Put repositories of the same owner in a collection, made when it is missing.

        Returns:
            The collection's page, or ``None`` where the hub has none.
        """
        ...

    def is_benchmark(self, dataset: str) -> bool:
        """Return true if the hub keeps a leaderboard for ``dataset``."""
        ...
