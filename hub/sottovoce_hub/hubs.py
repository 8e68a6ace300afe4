"""The hubs by name."""

from __future__ import annotations

import re

from sottovoce.errors import UsageError
from sottovoce_hub.attendance import Attended
from sottovoce_hub.destination import Destination

HUBS = ("hf", "modelscope")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def require_repository(repository: str, hub: str) -> None:
    """Check a repository's name by the rules of its hub; on Hugging Face's by those of its client.

    Raises:
        UsageError: It is not ``owner/name``, or the hub would refuse it.
    """
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise UsageError(f"{repository!r}: a repository is named owner/name, of letters, digits, '-', '_' and '.'")
    if hub == "hf":
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        try:
            validate_repo_id(repository)
        except HFValidationError as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UsageError(f"{repository!r}: Hugging Face's hub takes no such name ({reason})") from None


def open_destination(
    hub: str, repository: str, branch: str | None = None, token: str | None = None, license: str | None = None
) -> Destination:
    """Return the branch of a repository on a hub; no request is sent yet.

    ``license`` is what a new repository is registered with, where the hub asks for one.

    Raises:
        UsageError: There is no such hub, or the repository is not named as one.
        PublishError: The hub's client is not installed.
    """
    require_repository(repository, hub)
    if hub == "hf":
        from sottovoce_hub.huggingface import HuggingFace

        return Attended(HuggingFace(repository, branch=branch, token=token))
    if hub == "modelscope":
        from sottovoce_hub.modelscope import ModelScope

        return Attended(ModelScope(repository, branch=branch, token=token, license=license))
    raise UsageError(f"{hub!r}: no such hub; there are {' and '.join(HUBS)}")
