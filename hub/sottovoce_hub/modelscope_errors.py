"""Errors of ModelScope's client in one line, and those that are temporary."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from sottovoce.errors import PublishError
from sottovoce.network.tokens import own_tokens
from sottovoce.network.wording import fit_cause, shown

LONGEST_WAIT = 60
"""Seconds that ModelScope may ask to wait for; when it asks for more, the push ends."""

_PAUSES = (1, 2)
"""Seconds before the second attempt and the third."""

_AGAIN = "push again, what was uploaded is not uploaded again"
_UNREACHABLE = f"ModelScope cannot be reached; check the network and {_AGAIN}"

_TEXTS = {
    "AuthenticationError": "the token is missing, wrong or expired; set MODELSCOPE_API_TOKEN or run `modelscope login`",
    "PermissionDeniedError": "the token may not do this ({reason}); use one with write permission, of an account that "
    "may write there",
    "QuotaExceededError": "the quota is used up ({reason}); make room, or ask ModelScope for more",
    "NotExistError": "there is no such repository or branch, or the token may not see or change it; check the name "
    "and the token",
    "AlreadyExistsError": "it is in conflict with what is there ({reason}); push again",
    "RateLimitError": f"ModelScope asks for fewer requests; wait {{wait}} and {_AGAIN}",
    "ServerError": f"ModelScope failed ({{status}}); {_AGAIN}",
    "HubError": "ModelScope does not accept it ({reason}); check the name, the branch and the files",
    "FileNotFoundError": "a file is gone ({reason}); write the directory again",
    "PermissionError": "a file cannot be read ({reason}); change its permissions",
    "InvalidJSONError": "what answers is not ModelScope; check the network, its proxy and MODELSCOPE_ENDPOINT",
    "NetworkError": _UNREACHABLE,
    "OSError": _UNREACHABLE,
    "Exception": "ModelScope's client failed ({kind}: {reason}); update it with pip install --upgrade modelscope-hub",
}
"""Messages by the name of an error's class or the nearest of its parents."""

_Result = TypeVar("_Result")


@contextlib.contextmanager
def explained(repository: str, token: str | None) -> Iterator[None]:
    """Turn every error of the client into one line, without ``token``.

    Raises:
        PublishError: What failed, whose it is and what to do next.
    """
    try:
        yield
    except PublishError:
        raise
    except Exception as error:
        # The answer may quote what was sent; the first error, which has all of it, is then not shown either.
        tokens = own_tokens(token)
        reason = _explain(error, tokens)
        raise PublishError(f"{repository}: could not be published on ModelScope: {reason}") from fit_cause(
            error, tokens
        )


def again(step: Callable[[], _Result]) -> _Result:
    """Take a step that may be taken twice, up to three times, while its error is one that passes."""
    for pause in _PAUSES:
        try:
            return step()
        except Exception as error:
            wait = getattr(error, "retry_after", None) or pause
            if not _passes(error) or wait > LONGEST_WAIT:
                raise
            time.sleep(wait)
    return step()


def _passes(error: Exception) -> bool:
    if "Max retries exceeded" in str(error):
        return False  # The client itself has taken the step often enough, and waited.
    # Errors of the transport that the client lets through are OSErrors; one with a file's name is about that file.
    return bool(getattr(error, "retryable", isinstance(error, OSError) and error.filename is None))


def _explain(error: Exception, tokens: Collection[str]) -> str:
    reason = shown(getattr(error, "message", None) or error, tokens, longest=200).rstrip(".")
    # When the client itself has waited in vain, the status is left only in its words.
    repeated = re.search(r"too many (\d{3}) error responses", str(error))
    status = repeated[1] if repeated else getattr(error, "status_code", None)
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _TEXTS)
    if status == "429":
        name = "RateLimitError"
    wait = getattr(error, "retry_after", None)
    return _TEXTS[name].format(
        reason=reason,
        kind=type(error).__name__,
        status=f"HTTP {status}" if status else reason,
        wait=f"{wait:.0f} s" if wait else "a while",
    )
