"""The languages that the aligner was trained on, and what each needs to be split into words."""

from __future__ import annotations

from importlib.util import find_spec

from sottovoce.errors import UsageError

LANGUAGES = {
    "zh": "Chinese",
    "en": "English",
    "yue": "Cantonese",
    "fr": "French",
    "de": "German",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "pt": "Portuguese",
    "ru": "Russian",
    "es": "Spanish",
}
"""ISO 639 code to the name that the processor takes."""

UNSPACED = frozenset({"Chinese", "Cantonese", "Japanese"})
"""Languages that are written without spaces between words."""

_SPLITTERS = {"Japanese": "nagisa", "Korean": "soynlp"}


def language_name(language: str) -> str:
    """The processor's name of a language, from a name or an ISO code in any case.

    Raises:
        UsageError: The aligner does not know the language, or a library that finds its words is not installed.
    """
    asked = language.strip().lower()
    name = LANGUAGES.get(asked) or next((name for name in LANGUAGES.values() if name.lower() == asked), None)
    if name is None:
        known = ", ".join(f"{name} ({code})" for code, name in LANGUAGES.items())
        raise UsageError(f"the language {language!r} cannot be aligned; languages: {known}")
    library = _SPLITTERS.get(name)
    if library is not None and find_spec(library) is None:
        raise UsageError(f"{name} is split into words by {library}, which is not installed; pip install {library}")
    return name
