"""Languages by name, code and tag: one table, that knows what speech models are made for."""

from __future__ import annotations

import pytest

from sottovoce.errors import SamplesError
from sottovoce.samples.languages import UNSPACED, find_language, language_code, language_name


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("zh", "zh"),
        ("ZH", "zh"),
        ("Chinese", "zh"),
        ("zh-CN", "zh"),
        ("zh_TW", "zh"),
        ("zh-Hans", "zh"),
        ("cmn", "zh"),
        ("zho", "zh"),
        ("Mandarin", "zh"),
        ("中文", "zh"),
        ("zh-Hant-HK", "zh"),
        ("zh-yue", "yue"),
        ("yue", "yue"),
        ("Cantonese", "yue"),
        ("粤语", "yue"),
        ("en-US", "en"),
        (" English ", "en"),
        ("eng", "en"),
        ("jw", "jv"),
        ("pt_BR", "pt"),
        ("es-419", "es"),
        ("Haitian Creole", "ht"),
        ("fil", "fil"),
        ("ger", "de"),
    ],
)
def test_language_is_found_by_any_name_or_code(given: str, code: str) -> None:
    assert language_code(given) == code
    assert language_code(language_name(code)) == code


@pytest.mark.parametrize(
    "given", ["", " ", "xx", "Klingon", "auto", "und", "zh,en", "zh-en", "zh-", "-", "chinese-english"]
)
def test_unknown_language_is_refused(given: str) -> None:
    assert find_language(given) is None
    with pytest.raises(SamplesError, match="is not a language; give a name or an ISO 639 code"):
        language_code(given)


def test_every_language_of_whisper_is_known() -> None:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    for code, name in [*LANGUAGES.items(), *((code, name) for name, code in TO_LANGUAGE_CODE.items())]:
        found = find_language(code)
        assert found is not None and found == find_language(name), (code, name)


def test_codes_of_languages_without_spaces_are_in_the_table() -> None:
    for code in UNSPACED:
        assert language_code(code) == code
