"""Normalization of text, so that two spellings of the same words are equal when errors are counted."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from sottovoce.samples.languages import CHINESE, language_code

_APOSTROPHES = re.compile("[\u2018\u2019\u201b\u02bb\u02bc\u02c8\u2032\u00b4`]")
"""Characters that are written for an apostrophe, by keyboards, typesetters and mistake."""
_DIGITS = "零一二三四五六七八九"
_SPOKEN_DIGITS = str.maketrans({"0": "零", **{str(number): _DIGITS[number] for number in range(1, 10)}, "+": None})
_SAME_DIGITS = str.maketrans("〇○幺", "零零一")
"""Two ways to write zero, and the one that is said for a one in numbers that are read digit by digit."""
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_READ_BY_DIGIT = re.compile(
    r"(?<![\d.,:/-])(?:"
    r"\+?\d{1,3}[ -]?1[3-9]\d[ -]?\d{4}[ -]?\d{4}"  # a mobile number with the code of its country
    r"|1[3-9]\d([ -]?)\d{4}\1\d{4}"  # a mobile number
    r"|0\d{2,3}[ -]?\d{3,4}[ -]?\d{4}"  # a number with the code of its town
    r"|[48]00[ -]?\d{3,4}[ -]?\d{3,4}"  # a number that is free of charge
    r"|(?!(?:19|20)\d\d-(?:19|20)\d\d)\d{3,4}-\d{4}|\d\d(?!00)\d\d \d\d(?!00)\d\d"  # two groups, but for years
    r"|(?!\d+0000(?!\d))\d{7,}(?![万亿元块人个名次米吨度年%])"  # a long number, but for quantities
    r"|0\d+"
    r")(?!\d|[.,:/-]\d)"
)


def normalize(text: str, language: str) -> str:
    """Return text without what its writer chose and its speaker did not.

    Width and compatibility forms by NFKC, lower case, one apostrophe, no punctuation, no quotes at the edges of words,
    single spaces. In Chinese also traditional to simplified characters and numbers as they are spoken, by wetext (``5``
    becomes ``五``); telephone numbers and others of seven digits or more are read digit by digit.

    Args:
        text: What was said or recognized.
        language: Its name or code; see :mod:`~sottovoce.samples.languages`.

    Raises:
        SamplesError: The language is none.
    """
    chinese = language_code(language) in CHINESE
    text = unicodedata.normalize("NFKC", _APOSTROPHES.sub("'", text)).lower()
    if chinese:
        text = _spoken(text)
    text = "".join(_plain(char) for char in text)
    return " ".join(word for part in text.split() if (word := part.strip("'")))


def _plain(char: str) -> str:
    """Return the character, a space for punctuation and symbols, nothing for what cannot be seen."""
    category = unicodedata.category(char)
    if category == "Cf":
        return ""
    return " " if category[0] in "PSZC" and char != "'" else char


def _spoken(text: str) -> str:
    """Return Chinese text with its numbers as they are spoken."""
    text = _THOUSANDS.sub(lambda match: _chinese()(match[0].replace(",", "")), text)
    text = re.sub(r"(?<!\d)0(?=\d[月日号])", "", text)
    text = _READ_BY_DIGIT.sub(_by_digit, text)
    return _chinese()(text).translate(_SAME_DIGITS)


def _by_digit(match: re.Match[str]) -> str:
    return re.sub(r"[ -]", "", match[0]).translate(_SPOKEN_DIGITS)


@functools.cache
def _chinese() -> Callable[[str], str]:
    from wetext import Normalizer

    normalizer = Normalizer(lang="zh", operator="tn", traditional_to_simple=True, full_to_half=True)
    return lambda text: str(normalizer.normalize(text)) if text.strip() else ""
