"""Publishing of one compressed model: checked, described by its card, and uploaded in one commit."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sottovoce.errors import PublishError, UsageError
from sottovoce.report import COMPRESSION_FILE, CompressionReport
from sottovoce_hub.card import CARD_FILES, Variant, check_metadata, eval_results, write_card
from sottovoce_hub.card.reading import read
from sottovoce_hub.destination import Commit, Destination, File, Survey
from sottovoce_hub.files import Contents, read_contents, refuse_paths, refuse_secrets
from sottovoce_hub.hubs import HUBS, open_destination, require_repository

EVAL_RESULTS = ".eval_results/sottovoce.yaml"


@dataclass(frozen=True, kw_only=True)
class PushReport:
    """Result of a push: what was published, or would be."""

    repository: str
    hub: str
    branch: str | None
    files: tuple[File, ...]
    """Files of this model on the branch, its card included."""
    left_out: tuple[str, ...]
    """Files in the directory that were not written with the model."""
    uploaded: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    created: bool = False
    """True for a repository that this push created."""
    commit: Commit | None = None
    """Commit that was made; ``None`` for a dry run."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "repository": self.repository,
            "hub": self.hub,
            "branch": self.branch,
            "url": self.commit.url if self.commit else None,
            "revision": self.commit.revision if self.commit else None,
            "pull_request": self.commit.pull_request if self.commit else None,
            "dry_run": self.commit is None,
            "created": self.created,
            "files": [{"name": file.name, "size_bytes": file.size, "sha256": file.sha256} for file in self.files],
            "uploaded": list(self.uploaded),
            "deleted": list(self.deleted),
            "left_out": list(self.left_out),
        }


def push(
    directory: str | os.PathLike[str],
    repository: str,
    *,
    hub: str = "hf",
    branch: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    message: str | None = None,
    token: str | None = None,
    variants: Sequence[Variant] = (),
    base_model: str | None = None,
    dry_run: bool = False,
) -> PushReport:
    """Publish a directory that ``compress`` wrote, with a card written from what was measured.

    Other files in the directory are not published. Files that the branch has already are not uploaded again; files that
    an earlier push of another compression left there are removed.

    Args:
        directory: What ``compress`` or :func:`sottovoce.save` wrote.
        repository: ``owner/name``; it is created when it is missing.
        hub: ``hf`` or ``modelscope``.
        branch: Branch to commit to, by default the main one; it is created when it is missing.
        private: If true, a repository that is created is private; ``None`` leaves it to the hub.
        create_pr: Open a pull request instead, where the hub has them.
        message: Of the commit.
        token: By default the one that the hub's own client finds.
        variants: Other compressions of the same model, for the card's comparison.
        base_model: ``owner/name`` of the model that was compressed, on the same hub, with ``@revision`` if wanted; by
            default what was recorded when it was loaded.
        dry_run: Check the directory and write the card; use no network.

    Raises:
        UsageError: Sottovoce did not write the directory, or a name is wrong.
        PublishError: A file is not what was written or not fit to be published, the card's metadata is wrong, or the
            hub refused; what it has is as it was, or as the report says.
    """
    if hub not in HUBS:
        raise UsageError(f"{hub!r}: no such hub; there are {' and '.join(HUBS)}")
    require_repository(repository, hub)
    contents = read_contents(Path(directory))
    files = with_card(Path(directory), contents, repository, hub, branch, variants, base_model)
    report = PushReport(repository=repository, hub=hub, branch=branch, files=files, left_out=contents.left_out)
    model = read(Path(directory))
    # What a hub refuses without being asked, a dry run refuses too.
    license = model.source.license.id if model.source.license else None
    destination = open_destination(hub, repository, branch, token, license)
    if dry_run:
        return report
    return _publish(report, model, destination, private, create_pr, message or _message(model))


def with_card(
    directory: Path,
    contents: Contents,
    repository: str,
    hub: str,
    branch: str | None = None,
    variants: Sequence[Variant] = (),
    base_model: str | None = None,
) -> tuple[File, ...]:
    """Return a model's files and those of its card.

    Raises:
        PublishError: The hub would not understand the card's metadata, or the card tells of a machine or a secret.
    """
    written = write_card(
        directory, repository=repository, hub=hub, branch=branch, variants=variants, base_model=base_model
    )
    if problems := check_metadata(written["README.md"].decode(), hub):
        raise PublishError(f"{directory}: the card's metadata is not what the hub takes: {'; '.join(problems)}")
    card = [File.of(name, content) for name, content in sorted(written.items())]
    refuse_secrets(directory, card)
    refuse_paths(directory, card)
    names = {file.name for file in card}
    return (*(file for file in contents.files if file.name not in names), *card)


def _publish(
    report: PushReport,
    model: CompressionReport,
    destination: Destination,
    private: bool | None,
    create_pr: bool,
    message: str,
) -> PushReport:
    created = False if create_pr else destination.create(private)
    results = eval_results(model.to_dict(), destination.is_benchmark)
    files = report.files if results is None else (*report.files, File.of(EVAL_RESULTS, results))
    survey = destination.survey(files)
    additions = [file for file in files if file.name not in survey.unchanged]
    deletions = _outdated(destination, survey, {file.name for file in files})
    commit = Commit(url=destination.url, revision=None)
    if additions or deletions:
        commit = destination.commit(additions, deletions, message, create_pr=create_pr)
    return replace(
        report,
        branch=destination.branch,
        files=files,
        uploaded=tuple(file.name for file in additions),
        deleted=tuple(deletions),
        created=created,
        commit=commit,
    )


def _outdated(destination: Destination, survey: Survey, names: set[str]) -> list[str]:
    """Return what an earlier push left on the branch and this one does not have; other files stay."""
    content = destination.read(COMPRESSION_FILE) if COMPRESSION_FILE in survey.names else None
    if content is None:
        return []
    try:
        published = set(json.loads(content)["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    published |= {name for name in survey.names if name.startswith("card/")} | {*CARD_FILES, EVAL_RESULTS}
    return sorted((published & survey.names) - names)


def _message(model: CompressionReport) -> str:
    steps = ", ".join(str(step.get("step")) for step in model.recipe.get("steps", ()))
    return f"Publish {model.source.name}, compressed by {model.recipe_name or steps or 'no step'}"
