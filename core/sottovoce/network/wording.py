"""Safe display of messages from a hub or a repository: one short line without tokens and control characters."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from sottovoce.text.plain_text import plain, shortened

LONGEST = 300
"""Most characters of a message that are shown."""

_READ = 4000
"""Characters of a message that are read; an answer may be a page."""
_PIECE = 8
"""Characters of a token that are hidden even if the rest is missing."""
_MASK = "***"

_SECRETS = (
    (re.compile(r"\b(bearer|basic)(\s+)(?=\S*[\d_=])[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1\2{_MASK}"),
    (re.compile(r"\b(m_session_id=)[^;\s'\"]+"), rf"\1{_MASK}"),
    (re.compile(r"\bhf_\w{6,}"), f"hf_{_MASK}"),
    (re.compile(r"\bms-[0-9a-f]{6,}[0-9a-f-]*"), f"ms-{_MASK}"),
    (re.compile(r"(\w://)[^\s/@'\"]+@"), rf"\1{_MASK}@"),
    # Large files go to signed addresses, which give access to anyone.
    (re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*(?:Signature|Credential|[Tt]oken)=[^\s'\"]*"), r"\1"),
)


def shown(message: object, tokens: Collection[str] = (), longest: int = LONGEST) -> str:
    """Return a message in a form that may be shown.

    Args:
        message: A text or an error.
        tokens: The user's tokens, which are removed, pieces of them too.
        longest: Most characters; both ends of a longer text are kept.
    """
    text = without_secrets(plain(str(message)[:_READ]), tokens)
    return shortened(" ".join(text.split()), longest)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return the first names of a list, and the number of further ones."""
    texts: Sequence[str] = list(names)
    first = ", ".join(shown(name, longest=100) for name in texts[:most])
    return f"{first} and {len(texts) - most} more" if len(texts) > most else first


def without_secrets(text: str, tokens: Collection[str] = ()) -> str:
    """Return ``text`` without tokens and signatures of addresses."""
    for token in sorted(filter(None, tokens), key=len, reverse=True):
        text = _without_pieces(text.replace(token, _MASK), token)
    for pattern, mask in _SECRETS:
        text = pattern.sub(mask, text)
    return text


def fit_cause(error: BaseException, tokens: Collection[str] = ()) -> BaseException | None:
    """Return ``error`` if a traceback may show it with all its causes, else ``None``."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        text = str(cause)
        lines = "".join(text.split())
        if without_secrets(text, tokens) != text or plain(lines) != lines:
            return None
        waiting += [cause.__cause__, cause.__context__]
    return error


def _without_pieces(text: str, token: str) -> str:
    place = 0
    while len(token) >= _PIECE and place <= len(text) - _PIECE:
        end = place + _PIECE
        if text[place:end] not in token:
            place += 1
            continue
        while end < len(text) and text[place : end + 1] in token:
            end += 1
        text = f"{text[:place]}{_MASK}{text[end:]}"
        place += len(_MASK)
    return text
