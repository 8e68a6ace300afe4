"""How the Hugging Face Hub says no."""

from __future__ import annotations

from typing import Any, NoReturn

from hub.loopback.server import Answer


class Refused(Exception):
    """The hub says no."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def refuse(status: int, message: str, code: str | None = None, **more: Any) -> NoReturn:
    """Answer with an error, as the Hub forms it."""
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    raise Refused(Answer(status=status, body={"error": message, **more}, headers=headers))
