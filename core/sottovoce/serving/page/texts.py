"""Words of the page, in English and Chinese."""

from __future__ import annotations

from typing import Any

import gradio

from sottovoce.serving.page.chinese import CHINESE, ENGLISH

PREFIX = "sottovoce-"
"""Beginning of the keys that Gradio is given: it has keys of its own."""


def translations() -> Any:
    """Return Gradio's translations: the browser's language chooses."""
    return gradio.I18n(
        en={PREFIX + key: text for key, text in ENGLISH.items()},
        zh={PREFIX + key: text for key, text in CHINESE.items()},
    )


def label(translations: Any, key: str) -> Any:
    """Return a text that changes with the browser's language."""
    return translations(PREFIX + key)


def language_of(request: gradio.Request | None) -> str:
    """Return ``zh`` if that is the first language that a browser prefers, otherwise ``en``."""
    preferred = request.headers.get("accept-language", "") if request is not None else ""
    return "zh" if preferred.strip().lower().startswith("zh") else "en"


def say(key: str, language: str, **values: object) -> str:
    """Return a text of the page in a language, with its values."""
    return (CHINESE if language == "zh" else ENGLISH)[key].format(**values)
