"""Alignment of texts: what was edited, by characters and by words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sottovoce.metrics.alignment import align, comparable, count_edits, is_spaced
from sottovoce.metrics.error_rate import error_rates


def test_characters_are_aligned_with_the_least_edits() -> None:
    assert align("打开客厅灯", "打开客厅的灯") == (
        ("=", "打开客厅", "打开客厅"),
        ("insert", "", "的"),
        ("=", "灯", "灯"),
    )
    assert count_edits(align("关闭卧室的窗帘", "关闭卧视窗帘")) == 2


def test_words_of_a_spaced_language_are_whole() -> None:
    edits = align("the cat sat", "the cut sat 好", by_word=True)
    assert edits[:3] == (("=", "the ", "the "), ("substitute", "cat", "cut"), ("=", " sat", " sat"))
    assert edits[3][0] == "insert"


@given(st.text("甲乙丙 ab", max_size=12), st.text("甲乙丙 ab", max_size=12), st.booleans())
def test_both_texts_can_be_read_from_the_edits(reference: str, hypothesis: str, by_word: bool) -> None:
    edits = align(reference, hypothesis, by_word=by_word)
    assert "".join(before for _, before, _ in edits) == reference
    assert "".join(after for _, _, after in edits) == hypothesis


@given(st.text("甲乙丙丁", min_size=1, max_size=10), st.text("甲乙丙丁", max_size=10))
def test_number_of_edits_is_that_of_the_error_rate(reference: str, hypothesis: str) -> None:
    (cer,) = error_rates([reference], [hypothesis], ["zh"])
    assert cer.by_sample[0] is not None
    assert 100 * count_edits(align(reference, hypothesis)) == cer.by_sample[0][0]


def test_comparable_text_is_as_error_rates_count_it() -> None:
    assert comparable("音量 调到５！", "zh") == "音量调到五"
    assert comparable(" As it is. ", None) == "As it is."


def test_languages_with_spaces_are_known() -> None:
    assert [is_spaced(language) for language in ("zh", "ja", "en", None)] == [False, False, True, False]
