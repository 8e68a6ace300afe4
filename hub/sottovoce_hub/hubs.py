"""The hubs by name."""

from __future__ import annotations

import re

from sottovoce.errors import UsageError
from sottovoce_hub.destination import Destination

HUBS = ("hf", "modelscope")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def require_repository(repository: str) -> None:
    """Look whether a repository is named as both hubs name one.

    Raises:
        UsageError: It is not ``owner/name``.
    """
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise UsageError(f"{repository!r}: a repository is named owner/name, of letters, digits, '-', '_' and '.'")


def open_destination(
    hub: str, repository: str, branch: str | None = None, token: str | None = None, license: str | None = None
) -> Destination:
    """The branch of a repository on the hub called ``hub``; nothing is asked of it yet.

    ``license`` is what a new repository is registered with, where the hub asks for one.

    Raises:
        UsageError: There is no such hub, or the repository is not named as one.
        PublishError: The hub's client is not installed.
    """
    require_repository(repository)
    if hub == "hf":
        from sottovoce_hub.huggingface import HuggingFace

        return HuggingFace(repository, branch=branch, token=token)
    if hub == "modelscope":
        from sottovoce_hub.modelscope import ModelScope

        return ModelScope(repository, branch=branch, token=token, license=license)
    raise UsageError(f"{hub!r}: no such hub; there are {' and '.join(HUBS)}")
