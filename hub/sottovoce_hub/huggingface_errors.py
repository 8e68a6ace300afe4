"""Errors of the Hugging Face Hub's client in one line: what failed, why, what to do next."""

from __future__ import annotations

import contextlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

from sottovoce.errors import PublishError
from sottovoce.network.tokens import own_tokens
from sottovoce.network.wording import fit_cause, shown

ATTEMPTS = 3
LONGEST_WAIT = 60
"""Seconds that we wait at most when the hub asks for a pause."""

_Result = TypeVar("_Result")

_AGAIN = "run it again: what was uploaded is not uploaded twice"
_STATUSES = {
    400: ("the hub refuses the request", _AGAIN),
    402: ("the account's plan does not allow it", "see its billing settings, or publish publicly"),
    403: ("the token may not write there", "use one with write access, or propose the change in a pull request"),
    404: ("there is no such repository or branch, or the token may not see it", "check the name and the token"),
    409: ("the name is taken by a repository that the token may not see", "choose another name"),
    412: ("something was pushed to it meanwhile", "look at what changed and run it again"),
    413: ("the hub finds it too large", "split large files in shards"),
    422: ("the hub refuses what was sent", _AGAIN),
    429: ("too many requests", "wait a few minutes and run it again: what was uploaded is not uploaded twice"),
}
_PASSING = frozenset({408, 429, 500, 502, 503, 504})


@contextlib.contextmanager
def explained(subject: str, token: str | None) -> Iterator[None]:
    """Raise whatever goes wrong in the block as a :class:`~sottovoce.errors.PublishError`.

    Args:
        subject: What was tried, the first words of the message.
        token: What the message must not hold; ``None`` for the one that the client finds itself.

    Raises:
        PublishError: Anything went wrong.
    """
    try:
        yield
    except PublishError:
        raise
    except Exception as error:
        from huggingface_hub import get_token

        tokens = own_tokens(token)
        reason, advice = _explain(error, token or get_token())
        raise PublishError(f"{subject}: {shown(reason, tokens)}; {advice}") from fit_cause(error, tokens)


@contextlib.contextmanager
def cleaned_warnings() -> Iterator[None]:
    """Pass on what the client warns of in the block without tokens and control characters: the hub says it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in said:
        text = shown(warning.message, own_tokens())
        warnings.warn_explicit(text, warning.category, warning.filename, warning.lineno)


def patiently(call: Callable[[], _Result]) -> _Result:
    """Try again, a few times, what failed for a reason that passes; only for what may be done twice."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Exception as error:
            if not is_passing(error):
                raise
            pause(error, attempt)
    return call()


def pause(error: Exception, attempt: int) -> None:
    """Wait as long as the hub asks for, or a little longer after each attempt."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    header = headers.get("Retry-After") or (headers.get("RateLimit") if _status(error) == 429 else None)
    # The hub tells its limits in a header of its own, as in "api";r=0;t=55.
    match = re.fullmatch(r"(?:.*;\s*t=)?(\d+)", header or "")
    time.sleep(min(int(match[1]), LONGEST_WAIT) if match else 2 ** (attempt - 1))


def is_passing(error: BaseException) -> bool:
    """Return true if the same request may succeed later: the connection broke, or the hub is busy.

    What the client tells of the chunked store (Xet) is not among them: it has tried again for minutes.
    """
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return _status(error) in _PASSING
    # The client asks for the JSON of a card's check before it looks whether the answer is one.
    return isinstance(error, _library_error() | json.JSONDecodeError)


def is_missing(error: Exception) -> bool:
    """Return true if there is no such repository, branch or file, as far as the token can see."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # A repository with restricted access is a missing one to the client, too.
    missing = isinstance(error, RemoteEntryNotFoundError | RepositoryNotFoundError | RevisionNotFoundError)
    return missing and not isinstance(error, GatedRepoError)


def _explain(error: BaseException, token: str | None) -> tuple[str, str]:
    """Return why it failed, and what to do next."""
    from huggingface_hub.errors import DisabledRepoError, GatedRepoError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and error.__cause__:
        # The client says so which file it was uploading.
        reason, advice = _explain(error.__cause__, token)
        return f"{_words(error).rstrip('.')}: {reason}", advice
    if isinstance(error, OfflineModeIsEnabled):
        return "the network is forbidden", "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"
    if isinstance(error, GatedRepoError):
        return "access to it is restricted", "ask for access on its page"
    if isinstance(error, DisabledRepoError):
        return "the hub has disabled it", "see its page"
    if (status := _status(error)) is not None:
        return _explain_status(status, getattr(error, "server_message", None), token)
    if isinstance(error, _library_error() | json.JSONDecodeError | ConnectionError | TimeoutError):
        return f"the hub cannot be reached ({_words(error)})", f"check the network and HF_ENDPOINT, and {_AGAIN}"
    if isinstance(error, ValueError) and "metadata in README.md" in str(error):
        return f"the hub refuses the card: {_words(error)}", "correct its metadata"
    return _words(error), _AGAIN


def _explain_status(status: int, said: str | None, token: str | None) -> tuple[str, str]:
    if status == 401:
        reason = "the token is not accepted" if token else "there is no token"
        return reason, "log in with `hf auth login` or set HF_TOKEN"
    if status >= 500:
        reason, advice = f"the hub is in trouble ({status})", f"wait a little and {_AGAIN}"
    else:
        reason, advice = _STATUSES.get(status, (f"the hub answers with status {status}", _AGAIN))
    words = shown(said or "", longest=200).rstrip(".")
    return f"{reason} ({words})" if words else reason, advice


def _status(error: BaseException) -> int | None:
    """Return the status that the hub answered with, if it did."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, ConnectionError) and (said := re.search(r"HTTP status \w+ error \((\d{3}) ", str(error))):
        # The chunked store's client tells it so only.
        status = int(said[1])
    return status if isinstance(status, int) else None


def _library_error() -> type[BaseException]:
    """Return the class of all errors of the client's HTTP library, which differs between versions."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__bases__[0]


def _words(error: BaseException) -> str:
    # What is a secret in it is looked for in the whole message.
    return (shown(error) or type(error).__name__).rstrip(".")
