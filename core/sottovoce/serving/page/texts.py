"""Words of the page, in English and Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradio import Request

from sottovoce.serving.page.chinese import CHINESE, ENGLISH


def translations() -> Any:
    """Return Gradio's translations: the browser's language chooses."""
    import gradio

    return gradio.I18n(en=ENGLISH, zh=CHINESE)


def language_of(request: Request | None) -> str:
    """Return ``zh`` if that is the first language that a browser prefers, otherwise ``en``."""
    preferred = request.headers.get("accept-language", "") if request is not None else ""
    return "zh" if preferred.strip().lower().startswith("zh") else "en"


def say(key: str, language: str, **values: object) -> str:
    """Return a text of the page in a language, with its values."""
    return (CHINESE if language == "zh" else ENGLISH)[key].format(**values)
