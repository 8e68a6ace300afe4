"""The line that says what the page is doing."""

from __future__ import annotations

import html

from sottovoce.errors import SottovoceError
from sottovoce.serving.api_errors import ApiError
from sottovoce.serving.page.texts import say


def busy(language: str) -> str:
    """Return the status of work that waits for its turn."""
    return _status(f"<progress></progress>{say('busy', language)}")


def progress(done: float, total: float, language: str, name: str = "") -> str:
    """Return the status of work of which ``done`` of ``total`` seconds of audio are done."""
    amount = say("part", language, done=min(done, total), total=total)
    label = f"{html.escape(name)} {amount}".strip()
    return _status(f'<progress max="{total:.1f}" value="{min(done, total):.1f}"></progress>{label}')


def message(text: str) -> str:
    """Return the status with a sentence."""
    return _status(html.escape(text))


def failure(error: SottovoceError, language: str) -> str:
    """Return the status for an error; a visitor who stopped the work just hears that."""
    if isinstance(error, ApiError) and error.code == "cancelled":
        return message(say("stopped", language))
    return f'<div class="sv-status sv-error" role="alert">{html.escape(str(error))}</div>'


def alert(text: str) -> str:
    """Return the status with what is missing."""
    return f'<div class="sv-status sv-error" role="alert">{html.escape(text)}</div>'


def _status(content: str) -> str:
    return f'<div class="sv-status" role="status">{content}</div>'
