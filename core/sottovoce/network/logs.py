"""What the hubs' clients log of an answer, made fit to be shown."""

from __future__ import annotations

import logging

from sottovoce.network.tokens import own_tokens
from sottovoce.network.wording import shown

_LONGEST = 500


class _Cleaning(logging.Filter):
    """Takes tokens and control characters out of every record."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage(), self.tokens, _LONGEST), ()
        return True


_CLEANING = _Cleaning()


def clean_logs(client: str, token: str | None) -> None:
    """Have what a client logs cleaned from now on.

    Args:
        client: Its package.
        token: What it is given, which must not be shown.
    """
    _CLEANING.tokens |= own_tokens(token)
    for handler in logging.getLogger(client).handlers:
        handler.addFilter(_CLEANING)  # Once, however often it is added.
