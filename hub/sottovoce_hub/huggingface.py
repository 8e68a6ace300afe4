"""Publishing on the Hugging Face Hub, by its own client."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

import sottovoce
from sottovoce.errors import PublishError
from sottovoce.network.wording import listed, shown
from sottovoce_hub.destination import Commit, File, Survey
from sottovoce_hub.huggingface_change import Change, compare
from sottovoce_hub.huggingface_errors import (
    ATTEMPTS,
    cleaned_warnings,
    explained,
    is_missing,
    is_passing,
    patiently,
    pause,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

MAIN = "main"


class HuggingFace:
    """A branch of a model repository on the Hugging Face Hub; a :class:`~sottovoce_hub.destination.Destination`."""

    hub: ClassVar[str] = "hf"

    def __init__(
        self, repository: str, *, branch: str | None = None, token: str | None = None, endpoint: str | None = None
    ) -> None:
        """Name the branch; nothing is sent yet.

        Args:
            repository: ``owner/name``.
            branch: A branch, or ``refs/pr/N`` to add to a pull request; ``main`` when it is not given.
            token: What opens the hub; the client's own places (``HF_TOKEN``, a saved login) when it is not given.
            endpoint: The hub's address; the client's own (``HF_ENDPOINT``) when it is not given.

        Raises:
            PublishError: ``repository`` cannot be a repository's name, or ``token`` cannot be a token.
        """
        from huggingface_hub import HfApi

        from sottovoce.network.huggingface import attend

        _check(repository, token)
        attend(token)
        self.repository = repository
        self.branch = branch or MAIN
        self._token = token
        self._api = HfApi(
            endpoint=endpoint, token=token, library_name="sottovoce", library_version=sottovoce.__version__
        )
        self._surveyed: str | None = None

    @property
    def url(self) -> str:
        """Page of the branch."""
        page = f"{self._api.endpoint}/{self.repository}"
        return page if self.branch == MAIN else f"{page}/tree/{quote(self.branch, safe='')}"

    def survey(self, files: Sequence[File]) -> Survey:
        """Look at the branch without changing anything; a repository or branch that is not there holds nothing.

        What is committed afterwards must follow the commit that was seen here.

        Raises:
            PublishError: The hub refuses or cannot be reached.
        """
        with self._explained("cannot be looked at on"):
            self._surveyed = self._newest(self.branch)
            return self._compare(self._surveyed, files) if self._surveyed else Survey()

    def read(self, name: str) -> bytes | None:
        """Return the content of a small text file of the branch, or ``None`` when it is not there.

        Raises:
            PublishError: The hub refuses or cannot be reached.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
            http_backoff,
        )

        revision = self._surveyed or self.branch
        with self._explained(f"{name} cannot be read from"):
            url = hf_hub_url(self.repository, name, revision=revision, endpoint=self._api.endpoint)
            headers = build_hf_headers(token=self._token, library_name="sottovoce")
            try:
                answer = http_backoff("GET", url, headers=headers, follow_redirects=True)
                hf_raise_for_status(answer)
            except Exception as error:
                if is_missing(error):
                    return None
                raise
            return bytes(answer.content)

    def create(self, private: bool | None) -> bool:
        """Make the repository and the branch where they are missing.

        Args:
            private: If true, a new repository is private; ``None`` leaves it to the hub. One that is there already
                keeps what it is.

        Returns:
            True if the repository was created.

        Raises:
            PublishError: The hub refuses or cannot be reached.
        """
        with self._explained("cannot be made on"):
            missing = self._newest(MAIN) is None
            if missing:
                self._make(private)
            if self.branch != MAIN and self._newest(self.branch) is None:
                patiently(lambda: self._api.create_branch(self.repository, branch=self.branch, exist_ok=True))
            return missing

    def commit(
        self, additions: Sequence[File], deletions: Sequence[str], message: str, *, create_pr: bool = False
    ) -> Commit:
        """Upload and commit, in one commit.

        What an interrupted call has uploaded is not uploaded again by the next, and a pull request that already
        proposes the same under the same title is not opened again.

        Raises:
            PublishError: The hub refuses or cannot be reached, or the branch is no longer what was surveyed.
        """
        with self._explained("cannot be published on"):
            parent = self._surveyed or self._newest(self.branch)
            if not additions and not deletions:
                return Commit(url=self.url, revision=parent)
            change = Change(additions=additions, deletions=deletions, message=message)
            if create_pr and (proposed := self._proposed(change)):
                return proposed
            commit = self._send(change, parent, create_pr)
            self._check_commit(commit, change)
            if not create_pr:
                self._surveyed = commit.revision
            return commit

    def collect(self, title: str, repositories: Sequence[str]) -> str | None:
        """Put repositories in the owner's collection of that title, made when it is missing.

        Returns:
            The collection's page.

        Raises:
            PublishError: The hub refuses or cannot be reached.
        """
        api, owner = self._api, self.repository.partition("/")[0]
        with self._explained(f"the collection {title!r} cannot be made on"):
            collection = patiently(lambda: api.create_collection(title, namespace=owner, exists_ok=True))
            there = {item.item_id for item in collection.items}
            for name in repositories:
                if name not in there:
                    patiently(partial(api.add_collection_item, collection.slug, name, "model", exists_ok=True))
            return shown(collection.url)

    def is_benchmark(self, dataset: str) -> bool:
        """Return true if the hub keeps a leaderboard for ``dataset``.

        Raises:
            PublishError: The hub refuses or cannot be reached.
        """
        with self._explained("the benchmarks cannot be listed on"):
            benchmarks = self._api.list_datasets(benchmark=True, search=dataset.rpartition("/")[2])
            return any(benchmark.id == dataset for benchmark in benchmarks)

    def _explained(self, what: str) -> AbstractContextManager[None]:
        return explained(f"{self.repository}: {what} the Hugging Face Hub", self._token)

    def _newest(self, revision: str) -> str | None:
        """Return the commit that a branch is at; ``None`` without the branch or the repository."""
        try:
            return patiently(lambda: self._api.model_info(self.repository, revision=revision)).sha
        except Exception as error:
            if is_missing(error):
                return None
            raise

    def _compare(self, revision: str, files: Sequence[File]) -> Survey:
        return compare(self._api.list_repo_tree(self.repository, revision=revision, recursive=True), files)

    def _make(self, private: bool | None) -> None:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            patiently(lambda: self._api.create_repo(self.repository, private=private))
        except HfHubHTTPError as error:
            # It was made when the answer got lost; or it is someone's whom the token does not let us see.
            if error.response.status_code != 409 or self._newest(MAIN) is None:
                raise

    def _send(self, change: Change, parent: str | None, create_pr: bool) -> Commit:
        """Commit once, as the client does; only uploads are repeated after a temporary error."""
        operations = change.operations()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with cleaned_warnings():
                    info = self._api.create_commit(
                        self.repository,
                        operations,
                        commit_message=change.message,
                        revision=self.branch,
                        parent_commit=parent,
                        create_pr=create_pr,
                    )
                page = shown(info.pr_url) if info.pr_url else None
                return Commit(url=page or self.url, revision=info.oid, pull_request=page)
            except Exception as error:
                if not is_passing(error):
                    raise
                if commit := self._proposed(change) if create_pr else self._landed(change, parent):
                    return commit
                if attempt == ATTEMPTS:
                    raise
                pause(error, attempt)
        raise AssertionError("unreachable")

    def _landed(self, change: Change, parent: str | None) -> Commit | None:
        """Return the commit whose answer got lost, if it was made."""
        newest = self._newest(self.branch)
        if newest is None or newest == parent or change.missing(self._compare(newest, change.additions)):
            return None
        return Commit(url=self.url, revision=newest)

    def _proposed(self, change: Change) -> Commit | None:
        """Return the open pull request that proposes the same under the same title."""
        list_proposals = partial(
            self._api.get_repo_discussions,
            self.repository,
            discussion_type="pull_request",
            discussion_status="open",
        )
        for proposal in patiently(lambda: list(list_proposals())):
            if proposal.title != change.message:
                continue
            newest = self._newest(f"refs/pr/{proposal.num}")
            if newest and not change.missing(self._compare(newest, change.additions)):
                return Commit(url=proposal.url, revision=newest, pull_request=proposal.url)
        return None

    def _check_commit(self, commit: Commit, change: Change) -> None:
        """Check a commit for files that the client left out silently, as ``.gitignore`` says.

        Raises:
            PublishError: There are such files.
        """
        if commit.revision and (missing := change.missing(self._compare(commit.revision, change.additions))):
            raise PublishError(
                f"{self.repository}: {listed(missing)} did not change on the Hugging Face Hub with the commit; "
                "see whether the repository's .gitignore names it, and run it again"
            )


def _check(repository: str, token: str | None) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
        valid = repository.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise PublishError(
            f"{repository}: cannot be a repository on the Hugging Face Hub; write owner/name, "
            "of letters, digits, '-', '_' and '.'"
        )
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise PublishError(
            f"{repository}: the token is not a token of the Hugging Face Hub; copy it again, without blanks"
        )
