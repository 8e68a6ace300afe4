"""Repositories in memory: commits that map paths to contents, and names that point to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property

LARGE = "filter=lfs diff=lfs merge=lfs -text"
ATTRIBUTES = "".join(f"{pattern} {LARGE}\n" for pattern in ("*.bin", "*.onnx", "*.pt", "*.safetensors", "*.npz"))


@dataclass(frozen=True)
class Blob:
    """A file's content."""

    content: bytes
    large: bool = False
    """Whether git holds a pointer to it only."""

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @cached_property
    def id(self) -> str:
        stored = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0%b" % (len(stored), stored)).hexdigest()

    @property
    def size(self) -> int:
        return len(self.content)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The whole of a repository at one time."""

    parent: str | None
    title: str
    files: Mapping[str, Blob]
    number: int

    @cached_property
    def id(self) -> str:
        form = [self.number, self.parent, self.title, sorted((name, blob.id) for name, blob in self.files.items())]
        return hashlib.sha1(json.dumps(form).encode()).hexdigest()

    def is_large(self, name: str) -> bool:
        """Whether this commit's ``.gitattributes`` wants the file to be stored as a pointer."""
        lines = self.files.get(".gitattributes", Blob(b"")).content.decode().splitlines()
        patterns = [line.split()[0] for line in lines if line.endswith(LARGE)]
        return any(fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern) for pattern in patterns)


@dataclass(kw_only=True)
class PullRequest:
    """A proposed change, or a discussion."""

    number: int
    title: str
    author: str
    base: str
    """The branch that it is for."""
    is_pull_request: bool = True
    status: str = "open"


@dataclass(kw_only=True)
class Repository:
    """A repository; it begins with a commit of its own, as on the hubs."""

    name: str
    trunk: str = "main"
    private: bool = False
    gated: bool = False
    disabled: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Branches, ``refs/tags/...`` and ``refs/pr/...`` to commit ids."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large contents by sha256, committed or not."""
    pull_requests: dict[int, PullRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit(self.trunk, {".gitattributes": Blob(ATTRIBUTES.encode())}, (), "initial commit")

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag, a full ref or an id means."""
        for name in (revision, f"refs/tags/{revision}", revision.removeprefix("refs/heads/")):
            if name in self.refs:
                return self.commits[self.refs[name]]
        return self.commits.get(revision)

    def commit(self, ref: str, additions: Mapping[str, Blob], deletions: Iterable[str], title: str) -> Commit:
        """Make a commit on ``ref``, whole or not at all."""
        parent = self.refs.get(ref)
        files = dict(self.commits[parent].files) if parent else {}
        for name in deletions:
            del files[name]
        files |= additions
        commit = Commit(parent=parent, title=title, files=files, number=len(self.commits))
        self.commits[commit.id] = commit
        self.refs[ref] = commit.id
        return commit

    def files(self, revision: str | None = None) -> dict[str, bytes]:
        """Names and contents at a revision, but ``.gitattributes``."""
        commit = self.find(revision or self.trunk)
        files = commit.files if commit else {}
        return {name: blob.content for name, blob in files.items() if name != ".gitattributes"}

    def history(self, revision: str | None = None) -> list[Commit]:
        """The commits of a revision, the newest first."""
        commit, found = self.find(revision or self.trunk), []
        while commit:
            found.append(commit)
            commit = self.commits[commit.parent] if commit.parent else None
        return found

    def open_pull_request(self, title: str, author: str, base: str, start: str, *, draft: bool = False) -> PullRequest:
        """Begin a pull request at commit ``start``; a draft has no changes yet."""
        number = len(self.pull_requests) + 1
        self.refs[f"refs/pr/{number}"] = start
        request = PullRequest(number=number, title=title, author=author, base=base, status="draft" if draft else "open")
        self.pull_requests[number] = request
        return request
