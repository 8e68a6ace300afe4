"""Cleaning of the logs of the hubs' clients, so that they can be shown."""

from __future__ import annotations

import logging

from sottovoce.network.tokens import own_tokens
from sottovoce.network.wording import shown

_LONGEST = 500


class _Cleaning(logging.Filter):
    """Filter that removes tokens and control characters from every record."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage(), self.tokens, _LONGEST), ()
        return True


_CLEANING = _Cleaning()


def clean_logs(client: str, token: str | None) -> None:
    """Clean the logs of a client from now on.

    Args:
        client: Package of the client.
        token: Token of the call, which must not be shown.
    """
    _CLEANING.tokens |= own_tokens(token)
    for handler in logging.getLogger(client).handlers:
        handler.addFilter(_CLEANING)  # has no effect if it was added before
