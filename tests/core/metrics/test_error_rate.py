"""Error rates, against counts made by hand, and what counts as the same writing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.metrics.error_rate import error_rates, normalize


def rates(references: list[str], hypotheses: list[str | None], language: str = "zh") -> tuple[float | None, ...]:
    return tuple(metric.value for metric in error_rates(references, hypotheses, [language] * len(references)))


def test_counts_made_by_hand() -> None:
    cer, wer = error_rates(["今天天气很好", "打开灯"], ["今天天汽很", "打开台灯"], ["zh", "zh"])
    assert cer.value == pytest.approx(100 * 3 / 9)
    assert cer.details == {
        "substitutions": 1, "deletions": 1, "insertions": 1, "reference": 9, "without_hypothesis": 0
    }  # fmt: skip
    assert wer.value == cer.value  # a Chinese character is a word


def test_words_and_characters_of_english() -> None:
    cer, wer = rates(["the cat sat"], ["the cut sat"], "en")
    assert wer == pytest.approx(100 / 3)
    assert cer == pytest.approx(100 / 11)


@pytest.mark.parametrize("silence", [None, "", "。"])
def test_no_hypothesis_is_an_error(silence: str | None) -> None:
    assert rates(["一二三", "四"], [silence, "四"]) == (75.0, 75.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("打開客廳的燈", "打开客厅的灯"),
        ("音量调到５！", "音量调到五"),
        ("ＡＢＣ，好", "abc 好"),
        ("你 好 吗？", "你好吗"),
        ("价格是12元", "价格是十二元"),
    ],
)
def test_the_same_words_in_another_writing(one: str, other: str) -> None:
    assert rates([one], [other]) == (0.0, 0.0)


def test_mixed_text_splits_words_by_script() -> None:
    assert rates(["打开 wifi 开关"], ["打开 wife 开关"])[1] == pytest.approx(100 / 5)


def test_an_empty_reference_counts_insertions() -> None:
    cer, _ = error_rates(["", "一"], ["二", "一"], ["zh", "zh"])
    assert cer.value == 100.0
    assert cer.details["insertions"] == 1


@given(st.text(max_size=30), st.sampled_from(["zh", "en", "fr"]))
def test_normalizing_twice_changes_nothing_more(text: str, language: str) -> None:
    once = normalize(text, "en" if language == "zh" else language)
    assert normalize(once, "en" if language == "zh" else language) == once


@given(st.lists(st.text("一二三四五六七八九十", min_size=1, max_size=8), min_size=1, max_size=5))
def test_a_perfect_transcript_has_no_errors(texts: list[str]) -> None:
    assert rates(texts, list(texts), "ja") == (0.0, 0.0)
