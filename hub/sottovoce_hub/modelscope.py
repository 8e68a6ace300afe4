"""Publishing on ModelScope, through its own client."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from sottovoce.checkpoint.download import offline
from sottovoce.errors import PublishError
from sottovoce_hub.destination import Commit, File, Survey
from sottovoce_hub.modelscope_actions import MOST, Reading, addition, deletion, is_inline
from sottovoce_hub.modelscope_errors import again, explained

if TYPE_CHECKING:
    from modelscope_hub import HubApi
    from modelscope_hub.config import HubConfig

BRANCH = "master"
"""The branch that every repository has."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class ModelScope:
    """A branch of a model repository on ModelScope.

    Args:
        repository: ``owner/name``.
        branch: The branch, ``master`` when not given. ModelScope's client cannot make another one.
        token: An access token; else ``MODELSCOPE_API_TOKEN``, else what ``modelscope login`` saved.
        endpoint: The site; else ``MODELSCOPE_ENDPOINT``, else https://modelscope.cn.
        license: The license that a new repository is registered with, an SPDX identifier; the card has the last word.

    Raises:
        PublishError: ``repository`` or ``branch`` is not a valid name.
    """

    hub: ClassVar[str] = "modelscope"

    def __init__(
        self,
        repository: str,
        *,
        branch: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
        license: str | None = None,
    ) -> None:
        if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository, re.ASCII):
            raise PublishError(
                f"{repository}: is not a valid repository id; give owner/name, each of letters, digits, - _ and ."
            )
        if branch is not None and (not re.fullmatch(r"\w[\w./-]*", branch, re.ASCII) or ".." in branch):
            raise PublishError(f"{repository}: {branch!r} is not a valid branch; use letters, digits, - _ . /")
        self.repository = repository
        self.branch = branch or BRANCH
        site = endpoint or os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn"
        self._endpoint = (site if "://" in site else f"https://{site}").rstrip("/")
        page = f"{self._endpoint}/models/{repository}"
        self.url = page if self.branch == BRANCH else f"{page}/files?version={quote(self.branch, safe='')}"
        self._token = token
        self._license = license

    def survey(self, files: Sequence[File]) -> Survey:
        """Look at the branch without changing anything; a repository or branch that is not there holds nothing."""
        with self._speaking():
            there = self._files() if self.branch in (self._branches() or ()) else {}
        unchanged = frozenset(file.name for file in files if _holds(there, file))
        return Survey(names=frozenset(there), unchanged=unchanged)

    def read(self, name: str) -> bytes | None:
        """Return the content of a small text file of the branch, or ``None`` when it is not there."""
        with self._speaking():
            from modelscope_hub import NotExistError

            try:
                return again(partial(self._download, name))
            except NotExistError:
                return None

    def create(self, private: bool | None) -> bool:
        """Make the repository where it is missing.

        Raises:
            PublishError: The branch is missing, and the client can make none; no repository is made then.
        """
        with self._speaking(writing=True):
            branches = self._branches()
            if self.branch != BRANCH and self.branch not in (branches or ()):
                raise PublishError(
                    f"{self.repository}: has no branch {self.branch}, and ModelScope's client can make none; "
                    "push without a branch, or make it with git push first"
                )
            return branches is None and self._create(private)

    def commit(
        self, additions: Sequence[File], deletions: Sequence[str], message: str, *, create_pr: bool = False
    ) -> Commit:
        """Upload and commit, in one commit unless there are hundreds of files.

        What an interrupted call has uploaded is not uploaded again by the next: ModelScope is asked for every file.
        """
        if create_pr:
            raise PublishError(
                f"{self.repository}: ModelScope's client opens no pull requests; push without --create-pr"
            )
        with self._speaking(writing=True):
            for file in additions:
                if not is_inline(file):
                    again(partial(self._upload, file))
            changes: list[File | str] = [*additions, *deletions]
            for start in range(0, len(changes), MOST):
                self._commit(changes[start : start + MOST], message)
        return Commit(url=self.url, revision=self._revision(additions))

    def collect(self, title: str, repositories: Sequence[str]) -> str | None:
        """Return nothing: ModelScope's client makes no collections."""
        return None

    def is_benchmark(self, dataset: str) -> bool:
        """Return false: ModelScope keeps no leaderboards by data set."""
        return False

    @cached_property
    def _config(self) -> HubConfig:
        if offline():
            raise PublishError(
                f"{self.repository}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network; unset it to publish"
            )
        try:
            from modelscope_hub.config import HubConfig
        except ImportError:
            raise PublishError(f"{self.repository}: modelscope is not installed; pip install modelscope") from None
        return HubConfig(endpoint=self._endpoint, token=self._token)

    @cached_property
    def _client(self) -> HubApi:
        from modelscope_hub import HubApi

        from sottovoce.network.modelscope import attend

        return attend(HubApi(self._config, user_agent="sottovoce"))

    @contextlib.contextmanager
    def _speaking(self, writing: bool = False) -> Iterator[None]:
        token = self._config.token
        if writing and not token:
            raise PublishError(
                f"{self.repository}: no token for ModelScope; set MODELSCOPE_API_TOKEN or run `modelscope login`"
            )
        with explained(self.repository, token):
            yield

    def _branches(self) -> list[str] | None:
        """Return the repository's branches, or ``None`` when it is not there."""
        from modelscope_hub import NotExistError

        try:
            branches, _ = again(partial(self._client.legacy.list_revisions_detail, self.repository, "model"))
        except NotExistError:
            return None
        return [str(branch["Revision"]) for branch in branches]

    def _files(self) -> dict[str, dict[str, Any]]:
        listing = partial(self._client.legacy.list_repo_files, self.repository, "model", revision=self.branch)
        return {str(file["Path"]): file for file in again(listing) if file.get("Type") != "tree"}

    def _download(self, name: str) -> bytes:
        with self._client.legacy.download_stream(self.repository, "model", name, revision=self.branch) as response:
            return bytes(response.content)

    def _create(self, private: bool | None) -> bool:
        from modelscope_hub.errors import AlreadyExistsError

        visibility = None if private is None else "private" if private else "public"
        try:
            # The client would say Apache-2.0 of a model whose license it is not told.
            make = partial(self._client.create_repo, visibility=visibility, license=_spelled(self._license))
            again(partial(make, self.repository, "model"))
        except AlreadyExistsError:
            if self._branches() is None:
                raise PublishError(
                    f"{self.repository}: the name is taken by a repository that this token may not see; "
                    "choose another name, or use its owner's token"
                ) from None
            return False
        return True

    def _upload(self, file: File) -> None:
        """Bring a file to the store, unless that has it."""
        legacy = self._client.legacy
        objects = [{"oid": file.sha256, "size": file.size}]
        address = legacy.validate_blobs(self.repository, "model", objects).get(file.sha256)
        if address is None:
            return
        if isinstance(file.content, bytes):
            legacy.upload_blob(address, file.content, file.size)
            return
        with file.content.open("rb") as stream:
            reading = Reading(file, stream)
            legacy.upload_blob(address, reading, file.size)
        reading.check()

    def _commit(self, changes: Sequence[File | str], message: str) -> None:
        actions = [deletion(change) if isinstance(change, str) else addition(change) for change in changes]
        tried = False

        def step() -> None:
            nonlocal tried
            # Where the answer to a commit was lost, it may have been made: a second one would be another.
            if not tried or not self._is_done(changes):
                tried = True
                self._client.legacy.create_commit(
                    self.repository, "model", actions, commit_message=message, revision=self.branch
                )

        again(step)

    def _is_done(self, changes: Sequence[File | str]) -> bool:
        there = self._files()
        return all(change not in there if isinstance(change, str) else _holds(there, change) for change in changes)

    def _revision(self, additions: Sequence[File]) -> str | None:
        """Return the newest commit's id, by the commit that changed a file last: ModelScope does not tell it."""
        if not additions:
            return None
        with contextlib.suppress(PublishError), self._speaking():
            there, last = self._files(), additions[-1]
            if _holds(there, last) and _COMMIT.fullmatch(str(there[last.name].get("Revision"))):
                return str(there[last.name]["Revision"])
        return None


def _spelled(license: str | None) -> str:
    """Return a license as ModelScope's list spells it; ``Other`` where it has none such."""
    from modelscope_hub.constants import License

    return next(
        (known.value for known in License if known.value.lower() == (license or "").lower()), License.OTHER.value
    )


def _holds(there: Mapping[str, Mapping[str, Any]], file: File) -> bool:
    return str(there.get(file.name, {}).get("Sha256")).lower() == file.sha256
