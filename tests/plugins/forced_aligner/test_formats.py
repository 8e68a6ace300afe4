"""Subtitles and TextGrids of an alignment."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce_forced_aligner import Alignment, Word


def alignment(*words: tuple[str, float, float], text: str = "", language: str = "English") -> Alignment:
    found = tuple(Word(*word) for word in words)
    return Alignment(words=found, text=text, language=language, duration=10.0)


def lines_of(found: Alignment, **options: float) -> list[str]:
    return re.findall(r"-->.*\n(.*)\n", found.to_srt(**options))  # type: ignore[arg-type]


def even(text: str, words: list[str], language: str) -> Alignment:
    """One word every half second."""
    return alignment(*((word, 0.5 * n, 0.5 * n + 0.5) for n, word in enumerate(words)), text=text, language=language)


def test_a_subtitle_has_its_number_its_times_and_the_texts_own_writing() -> None:
    found = alignment(("Hello", 0.08, 0.4), ("world", 0.4, 1.0), ("So", 1.2, 3661.005), text="“Hello,  \nworld!” So.")
    first = "1\n00:00:00,080 --> 00:00:01,000\n“Hello, world!”\n"
    assert found.to_srt() == f"{first}\n2\n00:00:01,200 --> 01:01:01,005\nSo.\n"


def test_a_subtitle_ends_at_a_pause_a_sentence_and_a_full_line() -> None:
    found = alignment(("Yes", 0, 1), ("or", 2, 2.2), ("no", 2.2, 2.4), ("He", 2.4, 2.6), ("said", 2.6, 3),
                      text='Yes or "no." (He) said')  # fmt: skip
    assert lines_of(found) == ["Yes", 'or "no."', "(He) said"]
    assert lines_of(found, pause=1.5) == ['Yes or "no."', "(He) said"]
    assert lines_of(found, width=5) == ["Yes", "or", '"no."', "(He)", "said"]


def test_chinese_has_no_spaces_and_its_characters_are_wide() -> None:
    text = "打开客厅的灯。关上窗户，然后去睡觉"
    words = [character for character in text if character not in "。，"]
    assert lines_of(even(text, words, "Chinese")) == ["打开客厅的灯。", "关上窗户，然后去睡觉"]
    assert lines_of(even(text, words, "Chinese"), width=8) == ["打开客厅", "的灯。", "关上窗", "户，然后", "去睡觉"]


def test_a_subtitle_stays_seven_seconds_at_most() -> None:
    found = alignment(
        *((letter, 2.0 * number, 2.0 * number + 2) for number, letter in enumerate("abcdef")), text="a b c d e f"
    )
    assert lines_of(found) == ["a b c", "d e f"]


@pytest.mark.parametrize(("language", "line"), [("English", "one two"), ("Japanese", "onetwo")])
def test_words_that_the_text_does_not_have_are_written_as_they_are(language: str, line: str) -> None:
    assert lines_of(even("eins zwei", ["one", "two"], language)) == [line]


def test_words_of_another_width_are_found_in_the_text() -> None:
    text = "（ＡＢＣ）１２、ｱはい。"
    words = ["ABC", "12", "ア", "はい"]
    assert lines_of(even(text, words, "Japanese")) == [text]
    assert lines_of(even("Cafe\u0301, très", ["Café", "très"], "French")) == ["Cafe\u0301, très"]


def test_words_whose_letters_are_apart_in_the_text_keep_what_is_between() -> None:
    assert lines_of(even("an e-mail, sent", ["an", "email", "sent"], "English")) == ["an e-mail, sent"]


def test_a_word_without_length_can_be_seen() -> None:
    assert "00:00:01,000 --> 00:00:01,080" in alignment(("a", 1, 1), text="a").to_srt()


def test_nothing_is_lost_and_times_never_go_back() -> None:
    text = "The quick (brown) fox. Jumps over; the “lazy” dog! Twice?"
    words = re.findall(r"\w+", text)
    assert " ".join(lines_of(even(text, words, "English"), width=12)).split() == text.split()


def test_a_textgrid_covers_the_whole_audio() -> None:
    found = alignment(('say "a"', 0.5, 1.0), ("b", 1.0, 1.25), ("c", 2.0, 2.0), text="")
    assert (
        found.to_textgrid()
        == """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 10
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 10
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1
            text = "say ""a\"""
        intervals [3]:
            xmin = 1
            xmax = 1.25
            text = "b"
        intervals [4]:
            xmin = 1.25
            xmax = 10
            text = ""
    item [2]:
        class = "TextTier"
        name = "words without length"
        xmin = 0
        xmax = 10
        points: size = 1
        points [1]:
            number = 2
            mark = "c"
"""
    )


@given(st.lists(st.integers(0, 9999), min_size=0, max_size=40).map(sorted))
def test_a_textgrids_intervals_follow_one_another(milliseconds: list[int]) -> None:
    pairs = list(zip(milliseconds[::2], milliseconds[1::2], strict=False))
    text = alignment(*(("w", start / 1000, end / 1000) for start, end in pairs)).to_textgrid()
    body = text.partition("intervals: size")[2].partition("TextTier")[0]
    begins, ends = (re.findall(rf"{name} = ([\d.]+)\n", body) for name in ("xmin", "xmax"))
    assert begins[0] == "0"
    assert ends[: len(begins)][-1] == "10"
    assert begins[1:] == ends[: len(begins) - 1]
    assert all(float(begin) < float(end) for begin, end in zip(begins, ends, strict=False))
    assert text.count('= "w"') == len(pairs)
