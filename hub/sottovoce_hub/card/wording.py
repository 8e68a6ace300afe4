"""What a card says, in its language."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources

import yaml

from sottovoce_hub.card import figures
from sottovoce_hub.card.markdown import Markdown, text

LANGUAGES = ("en", "zh")


class Wording:
    """The short texts of one language; the long ones are in its template."""

    def __init__(self, language: str, translations: Mapping[str, str] | None = None) -> None:
        """Read the texts.

        Args:
            language: ``en`` or ``zh``.
            translations: What the model's family says in English, and the same in this language.
        """
        self.language = language
        self._texts = _texts(language)
        self._sentences = {**_sentences(language), **(translations or {})}

    def __call__(self, key: str, **values: object) -> Markdown:
        """The text called ``key``, with its ``values``, which are escaped where they are not Markdown yet."""
        return Markdown(self._texts[key].format_map({name: text(value) for name, value in values.items()}))

    def metric(self, name: str) -> Markdown:
        """What a metric is called; its own name where it is not known here."""
        kind = name.removeprefix("accuracy_")
        if kind != name:
            return self("metric_accuracy_of", kind=self.kind(kind))
        return self(f"metric_{name}") if f"metric_{name}" in self._texts else text(name)

    def kind(self, name: str) -> Markdown:
        """What a kind of token or sample is called."""
        return self(f"kind_{name}") if f"kind_{name}" in self._texts else text(name)

    def value(self, number: float | None, unit: str) -> Markdown:
        """A number with its unit, or that there is none."""
        if number is None:
            return self("not_measured")
        if unit == "bytes":
            return Markdown(figures.size(number))
        return Markdown(f"{figures.number(number)} {self.unit(unit)}".rstrip())

    def unit(self, unit: str) -> Markdown:
        """What a unit is called."""
        key = f"unit_{unit.replace(' ', '_')}"
        return self(key) if key in self._texts else text(unit)

    def sentence(self, sentence: str) -> Markdown:
        """A sentence of a report or a plugin in this language, as it is where no translation is known.

        A sentence may begin with the name of a layer and a colon, which stay.
        """
        if sentence in self._sentences:
            return text(self._sentences[sentence])
        name, colon, rest = sentence.partition(": ")
        if colon and rest in self._sentences:
            return text(f"{name}{self._texts['colon']}{self._sentences[rest]}")
        for pattern, made in _patterns(self.language):
            if found := pattern.fullmatch(sentence):
                return text(found.expand(made))
        return text(sentence)


@functools.cache
def _read(language: str) -> Mapping[str, Mapping[str, str]]:
    source = resources.files("sottovoce_hub.card").joinpath("templates", f"{language}.yaml")
    return dict(yaml.safe_load(source.read_text(encoding="utf-8")))


def _texts(language: str) -> Mapping[str, str]:
    return _read(language)["texts"]


def _sentences(language: str) -> Mapping[str, str]:
    return _read(language).get("sentences") or {}


@functools.cache
def _patterns(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), made) for pattern, made in (_read(language).get("patterns") or {}).items())
