"""Short texts of a card in its language."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources

import yaml

from sottovoce.report import Metric, number_format
from sottovoce.text.translations import Text
from sottovoce_hub.card.markdown import Markdown, text

LANGUAGES = ("en", "zh")


class Translations:
    """The short texts of one language; the long ones are in its template."""

    def __init__(self, language: str, family: Mapping[str, str] | None = None) -> None:
        """Read the texts.

        Args:
            language: ``en`` or ``zh``.
            family: Sentences of the model's family in English, and the same in this language.
        """
        self.language = language
        self._texts = _texts(language)
        self._sentences = {**_sentences(language), **(family or {})}

    def __call__(self, key: str, **values: object) -> Markdown:
        """Return the text called ``key`` with its ``values``, which are escaped where they are not Markdown yet.

        Where a ``count`` is 1, the text called ``key_one`` is taken, in a language that has one.
        """
        singular = self._texts.get(f"{key}_one") if str(values.get("count")) == "1" else None
        return Markdown((singular or self._texts[key]).format_map({name: text(v) for name, v in values.items()}))

    def label(self, label: Text) -> Markdown:
        """Return a text that a step or a metric brought, in this language."""
        return text(label.in_language(self.language))

    def metric(self, metric: Metric) -> Markdown:
        """Return the name of a metric for people; its own name where it brought none."""
        return text(metric.name) if metric.label is None else self.label(metric.label)

    def value(self, number: float | None, unit: str) -> Markdown:
        """Return a number with its unit, or that there is none."""
        if number is None:
            return self("not_measured")
        if unit == "bytes":
            return Markdown(number_format.size(number))
        return Markdown(f"{number_format.number(number)} {self.unit(unit)}".rstrip())

    def unit(self, unit: str) -> Markdown:
        """Return the name of a unit."""
        key = f"unit_{unit.replace(' ', '_')}"
        return self(key) if key in self._texts else text(unit)

    def sentence(self, sentence: str) -> Markdown:
        """Return a sentence of a report or a plugin in this language, unchanged where no translation is known.

        A sentence may begin with the name of a layer and a colon, which stay.
        """
        if sentence in self._sentences:
            return text(self._sentences[sentence])
        name, colon, rest = sentence.partition(": ")
        if colon and rest in self._sentences:
            return text(f"{name}{self._texts['colon']}{self._sentences[rest]}")
        for pattern, translation in _patterns(self.language):
            if match := pattern.fullmatch(sentence):
                return text(match.expand(translation))
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
    patterns = _read(language).get("patterns") or {}
    return tuple((re.compile(pattern), translation) for pattern, translation in patterns.items())
