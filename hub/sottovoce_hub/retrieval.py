"""Fetching a published model to a directory, compared with the digests that were published with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.directory import new_directory, reserved
from sottovoce.checkpoint.download import IGNORED, fetch
from sottovoce.checkpoint.manifest import read_manifest
from sottovoce.checkpoint.ownership import mark
from sottovoce.errors import SourceError, UsageError
from sottovoce.network.wording import listed
from sottovoce.report import COMPRESSION_FILE
from sottovoce.source import LoadOptions, Repository
from sottovoce_hub.card import CARD_FILES
from sottovoce_hub.hubs import HUBS, require_repository
from sottovoce_hub.runnable import runs

_LOOKED_AT = 1_000_000
"""Bytes of a file by which it is known what it is."""


@dataclass(frozen=True, kw_only=True)
class PullReport:
    """Result of a pull."""

    repository: str
    hub: str
    revision: str | None
    """Commit that was fetched."""
    directory: Path
    files: tuple[str, ...]
    verified: bool
    """True where the repository has digests and the files match them."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "repository": self.repository,
            "hub": self.hub,
            "revision": self.revision,
            "directory": str(self.directory),
            "files": list(self.files),
            "verified": self.verified,
        }


def pull(
    repository: str,
    directory: str | os.PathLike[str],
    *,
    hub: str = "hf",
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    overwrite: bool = False,
) -> PullReport:
    """Fetch a repository to the hub's cache, check it, and copy it to a directory.

    What the cache has is not fetched again, so an interrupted call resumes when it is repeated. Code, archives,
    pickles that are no weights, and other engines' formats stay where they are.

    Args:
        repository: ``owner/name``.
        directory: Directory to write; it is complete or absent.
        hub: ``hf`` or ``modelscope``.
        revision: Branch, tag or commit.
        token: By default the one that the hub's own client finds.
        cache_dir: The hub's cache.
        overwrite: Replace the directory when it exists.

    Raises:
        UsageError: The directory exists, or a name is wrong.
        SourceError: The repository does not exist, may not be read, or there is no network and no cached copy; or it
            calls itself ours and holds code.
        CheckpointError: Its files are not those that were published.
    """
    if hub not in HUBS:
        raise UsageError(f"{hub!r}: no such hub; there are {' and '.join(HUBS)}")
    require_repository(repository, hub)
    path = Path(directory)
    with reserved(path, overwrite):
        options = LoadOptions(revision=revision, token=token, cache_dir=cache_dir)
        fetched, resolved = fetch(Repository(id=repository, hub="hf" if hub == "hf" else "modelscope"), options)
        manifest = read_manifest(fetched)
        names = tuple(sorted(_names(fetched, manifest)))
        if not names:
            raise SourceError(
                f"{repository}: nothing to pull: it has no file of a model; check the name and the revision"
            )
        if code := [name for name in manifest or () if _runs(fetched, name)]:
            raise SourceError(
                f"{repository}: not pulled: {listed(code)} could run where it is loaded, and no model that Sottovoce "
                "wrote has such files; tell its publisher"
            )
        with new_directory(path, overwrite) as temporary:
            for name in names:
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fetched / name, temporary / name)
            mark(temporary)
    return PullReport(
        repository=repository,
        hub=hub,
        revision=resolved.revision,
        directory=path,
        files=names,
        verified=manifest is not None,
    )


def _names(directory: Path, manifest: dict[str, str] | None) -> Iterator[str]:
    """Of a model of ours its own files and its card; of another all but code and what the client keeps there."""
    if manifest is not None:
        yield from (COMPRESSION_FILE, *manifest)
    for path in directory.rglob("*"):
        name = path.relative_to(directory)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        card = name.as_posix() in CARD_FILES or name.parts[0] == "card"
        ignored = any(path.match(pattern) for pattern in IGNORED) or _runs(directory, name.as_posix())
        if not ignored and (manifest is None or (card and name.as_posix() not in manifest)):
            yield name.as_posix()


def _runs(directory: Path, name: str) -> bool:
    """Return true for code and pickles, other than weights, which loading reads without running them."""
    with (directory / name).open("rb") as file:
        return runs(name, file.read(_LOOKED_AT), weights=True) is not None
