"""The languages that the aligner was trained on, and what each needs to be split into words."""

from __future__ import annotations

from importlib.util import find_spec

from sottovoce.errors import UsageError
from sottovoce.samples import languages

LANGUAGES = {
    code: languages.language_name(code) for code in ("zh", "en", "yue", "fr", "de", "it", "ja", "ko", "pt", "ru", "es")
}
"""Code to the name that the processor takes, which is the English one."""

UNSPACED = frozenset(name for code, name in LANGUAGES.items() if code in languages.UNSPACED)
"""Languages that are written without spaces between words."""

_SPLITTERS = {"ja": "nagisa", "ko": "soynlp"}


def language_name(language: str) -> str:
    """Return the processor's name of a language, from a name or code; see :mod:`sottovoce.samples.languages`.

    Raises:
        UsageError: The aligner does not know the language, or a library that finds its words is not installed.
    """
    language_entry = languages.find_language(language)
    if language_entry is None or language_entry.code not in LANGUAGES:
        known = ", ".join(f"{name} ({code})" for code, name in LANGUAGES.items())
        raise UsageError(f"the language {language[:40]!r} cannot be aligned; languages: {known}")
    library = _SPLITTERS.get(language_entry.code)
    if library is not None and find_spec(library) is None:
        raise UsageError(
            f"{language_entry.name} is split into words by {library}, which is not installed; pip install {library}"
        )
    return language_entry.name
