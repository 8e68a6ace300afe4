"""Error rates, against counts made by hand, and what counts as the same writing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import SamplesError
from sottovoce.metrics.error_rate import error_rates
from sottovoce.metrics.normalization import normalize


def rates(references: list[str], hypotheses: list[str | None], language: str = "zh") -> tuple[float | None, ...]:
    return tuple(metric.value for metric in error_rates(references, hypotheses, [language] * len(references)))


def test_counts_made_by_hand() -> None:
    (cer,) = error_rates(["今天天气很好", "打开灯"], ["今天天汽很", "打开台灯"], ["zh", "zh"])
    assert cer.value == pytest.approx(100 * 3 / 9)
    assert cer.details == {"substitutions": 1, "deletions": 1, "insertions": 1, "reference": 9, "without_hypothesis": 0}


def test_words_and_characters_of_english() -> None:
    cer, wer = rates(["the cat sat"], ["the cut sat"], "en")
    assert wer == pytest.approx(100 / 3)
    assert cer == pytest.approx(100 / 11)


@pytest.mark.parametrize("silence", [None, "", "。"])
def test_no_hypothesis_is_an_error(silence: str | None) -> None:
    assert rates(["一二三", "四"], [silence, "四"]) == (75.0,)


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
    assert rates([one], [other]) == (0.0,)


def test_mixed_text_splits_words_by_script() -> None:
    # A Chinese character is a word.
    assert rates(["打开 wifi 开关"], ["打开 wife 开关"], "en")[1] == pytest.approx(100 / 5)


def test_an_empty_reference_counts_insertions() -> None:
    (cer,) = error_rates(["", "一"], ["二", "一"], ["zh", "zh"])
    assert cer.value == 100.0
    assert cer.details["insertions"] == 1


@given(st.text(max_size=30), st.sampled_from(["zh", "en", "fr"]))
def test_normalizing_twice_changes_nothing_more(text: str, language: str) -> None:
    once = normalize(text, "en" if language == "zh" else language)
    assert normalize(once, "en" if language == "zh" else language) == once


@given(st.lists(st.text("一二三四五六七八九十", min_size=1, max_size=8), min_size=1, max_size=5))
def test_a_perfect_transcript_has_no_errors(texts: list[str]) -> None:
    assert rates(texts, list(texts), "ja") == (0.0,)


@pytest.mark.parametrize(
    "language", ["zh", "Chinese", "chinese", "zh-CN", "ZH", "zh_TW", "zh-Hans-CN", "cmn", "yue", "中文"]
)
def test_chinese_is_chinese_by_whatever_name(language: str) -> None:
    assert rates(["打開客廳的燈，音量5"], ["打开客厅的灯音量五"], language) == (0.0,)


@pytest.mark.parametrize("language", ["", "Klingon", "zh,en", "auto", "xx"])
def test_a_language_that_is_none_is_an_error(language: str) -> None:
    with pytest.raises(SamplesError, match="is not a language"):
        rates(["a"], ["a"], language)


@pytest.mark.parametrize(
    ("languages", "names"),
    [
        (["zh", "Cantonese"], ["cer"]),
        (["ja"], ["cer"]),
        (["Thai", "zh"], ["cer"]),
        (["en"], ["cer", "wer"]),
        (["ko"], ["cer", "wer"]),
        (["zh", "en"], ["cer", "wer"]),
    ],
    ids=str,
)
def test_words_are_counted_where_spaces_divide_them(languages: list[str], names: list[str]) -> None:
    found = error_rates(["a"] * len(languages), ["a"] * len(languages), languages)
    assert [metric.name for metric in found] == names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Don\u2019t stop", "don't stop"),
        ("don\u02bct", "don't"),
        ("it\u00b4s O`Neill\u2018s", "it's o'neill's"),
        ("\u2018Hello,\u2019 she said", "hello she said"),
        ("the dogs' 'bones'", "the dogs bones"),
        ("co\u00adoperate", "cooperate"),
        ("rock 'n' roll", "rock n roll"),
    ],
)
def test_an_apostrophe_is_one_and_a_quote_is_none(one: str, other: str) -> None:
    for language in ("en", "French", "zh"):
        assert rates([one], [other], language)[0] == 0.0
    assert rates(["don't"], ["dont"], "en") == (20.0, 100.0)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("二〇二四年", "二零二四年"),
        ("二○二四年", "2024年"),
        ("请拨打13800138000。", "请拨打一三八零零一三八零零零"),
        ("请拨打13912345678", "请拨打幺三九一二三四五六七八"),
        ("138-0013-8000", "138 0013 8000"),
        ("+86 138 0013 8000", "八六一三八零零一三八零零零"),
        ("电话010-12345678", "电话零一零一二三四五六七八"),
        ("010 1234 5678", "零幺零一二三四五六七八"),
        ("400-820-8820", "四零零八二零八八二零"),
        ("拨打110", "拨打幺幺零"),
        ("58497100", "五八四九七一零零"),
        ("007", "零零七"),
    ],
)
def test_telephone_numbers_are_read_digit_by_digit(written: str, said: str) -> None:
    assert rates([written], [said]) == (0.0,)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1,234元", "一千二百三十四元"),
        ("1,234,567元", "一百二十三万四千五百六十七元"),
        ("1234567元", "一百二十三万四千五百六十七元"),
        ("1000000", "一百万"),
        ("2024-03-05", "二零二四年三月五日"),
        ("2024年03月05日", "二零二四年三月五日"),
        ("3.14159265", "三点一四一五九二六五"),
        ("12:30", "十二点三十分"),
        ("第3章", "第三章"),
    ],
)
def test_quantities_and_dates_are_read_as_such(written: str, said: str) -> None:
    assert rates([written], [said]) == (0.0,)
