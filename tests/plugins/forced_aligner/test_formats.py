"""Subtitles and TextGrids of an alignment."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce_forced_aligner import Alignment, Word


def alignment(*words: tuple[str, float, float], text: str = "", language: str = "English") -> Alignment:
    found = tuple(Word(*word) for word in words)
    return Alignment(words=found, text=text, language=language, duration=10.0)


TIMES = st.integers(0, 300).map(lambda step: step / 100) | st.floats(0, 12, allow_nan=False)
WORDS = st.lists(st.tuples(st.sampled_from(["Yes", "no.", '"a"', "灯", "two\u3000"]), TIMES, TIMES), max_size=25)
"""Words in any order of times: equal ones, none with length, some that lie in others."""


def drawn(words: list[tuple[str, float, float]]) -> Alignment:
    return alignment(
        *((word, start, max(start, end)) for word, start, end in words), text=" ".join(word for word, _, _ in words)
    )


def cues_of(text: str) -> list[tuple[int, int, str]]:
    """Begin and end of each cue in milliseconds, and its lines; reads as a player does, by blank lines."""
    cues = []
    for number, block in enumerate(text.rstrip("\n").split("\n\n") if text else [], 1):
        name, times, *lines = block.split("\n")
        assert name == str(number)
        found = re.fullmatch(r"(\d\d):(\d\d):(\d\d),(\d\d\d) --> (\d\d):(\d\d):(\d\d),(\d\d\d)", times)
        assert found is not None
        parts = [int(part) for part in found.groups()]
        begin, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (parts[:4], parts[4:]))
        assert lines and all(line.strip() for line in lines)
        cues.append((begin, end, "\n".join(lines)))
    return cues


def read_by_praatio(text: str, folder: Path) -> Any:
    """What praatio reads, which takes as little as Praat does."""
    from praatio import textgrid

    (folder / "a.TextGrid").write_text(text, encoding="utf-8")
    return textgrid.openTextgrid(str(folder / "a.TextGrid"), includeEmptyIntervals=True, reportingMode="error")


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
    found = alignment(
        ("Yes", 0, 1),
        ("or", 2, 2.2),
        ("no", 2.2, 2.4),
        ("He", 2.4, 2.6),
        ("said", 2.6, 3),
        text='Yes or "no." (He) said',
    )
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


@given(WORDS)
def test_subtitles_follow_one_another_and_can_be_seen_whatever_the_words_times_are(
    words: list[tuple[str, float, float]],
) -> None:
    found = drawn(words)
    cues = cues_of(found.to_srt())
    assert all(end - begin >= 80 for begin, end, _ in cues)
    assert all(end <= begin for (_, end, _), (begin, _, _) in zip(cues, cues[1:], strict=False))
    assert " ".join(lines for _, _, lines in cues).split() == found.text.split()


def test_subtitles_that_nobody_could_see_are_lines_of_one() -> None:
    found = alignment(
        ("Yes", 1, 1),
        ("No", 1.02, 1.02),
        ("So", 1.05, 1.4),
        ("It", 1.4, 2),
        ("Is", 1.9, 1.9),
        text="Yes. No! So. It. Is.",
    )
    assert cues_of(found.to_srt()) == [(1000, 1400, "Yes.\nNo!\nSo."), (1400, 1900, "It."), (1900, 1980, "Is.")]


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
    assert sum(len(label.split()) for label in re.findall(r'= "([w ]+)"', text)) == len(pairs)


@given(WORDS)
def test_a_textgrid_is_read_by_praatio_with_every_word(
    tmp_path_factory: pytest.TempPathFactory, words: list[tuple[str, float, float]]
) -> None:
    found = drawn(words)
    text = found.to_textgrid()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = read_by_praatio(text, tmp_path_factory.mktemp("grid"))
    intervals = grid.getTier("words").entries
    points = grid.getTier("words without length").entries if len(grid.tierNames) > 1 else ()
    assert intervals[0].start == 0 and intervals[-1].end == grid.maxTimestamp >= 10
    assert all(one.end == other.start for one, other in zip(intervals, intervals[1:], strict=False))
    assert all(interval.start < interval.end for interval in intervals)
    times = [point.time for point in points]
    assert times == sorted(set(times))
    written = " ".join([*(interval.label for interval in intervals), *(point.label for point in points)])
    # praatio leaves quotation marks doubled, as the file has them.
    assert sorted(written.replace('""', '"').split()) == sorted(" ".join(word.text for word in found.words).split())


@pytest.mark.parametrize(("language", "mark"), [("English", "b c"), ("Chinese", "bc")])
def test_words_without_length_at_one_time_are_one_point(language: str, mark: str, tmp_path: Path) -> None:
    found = alignment(("a", 0, 1), ("b", 2, 2), ("c", 2, 2.0000001), ("d", 2.5, 2.5), text="", language=language)
    grid = read_by_praatio(found.to_textgrid(), tmp_path)
    assert [tuple(point) for point in grid.getTier("words without length").entries] == [(2, mark), (2.5, "d")]
