"""Files of transcripts, as other programs read them."""

from __future__ import annotations

import json
from pathlib import Path

import praatio.textgrid
import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce import Segment, Transcript, Word
from sottovoce.errors import UsageError
from sottovoce.transcription.files import FORMATS, cues, to_text

WORDS = (Word("how", 1.0, 1.2), Word("are", 1.2, 1.4), Word("you", 1.4, 1.6), Word("fine", 2.5, 3.0))
TIMED = Segment(text="How are you? Fine!", start=0.9, end=3.2, words=WORDS)
PLAIN = Segment(text="一<二> & {三}\t四", start=4.0, end=6.0, speaker="A")
TRANSCRIPT = Transcript(segments=(TIMED, PLAIN), duration=7.0, language="en")


def test_text_is_a_line_for_each_segment() -> None:
    assert to_text(TRANSCRIPT, "txt") == "How are you? Fine!\nA: 一<二> & {三}\t四\n"


def test_json_is_the_transcript() -> None:
    assert json.loads(to_text(TRANSCRIPT, "json")) == json.loads(json.dumps(TRANSCRIPT.to_dict()))


def test_a_table_has_milliseconds_and_no_tab_in_a_text() -> None:
    rows = [line.split("\t") for line in to_text(TRANSCRIPT, "tsv").splitlines()]
    assert rows == [
        ["start", "end", "text", "speaker"],
        ["900", "3200", "How are you? Fine!", ""],
        ["4000", "6000", "一<二> & {三} 四", "A"],
    ]


def test_a_table_without_speakers_has_no_column_for_them() -> None:
    text = to_text(Transcript(segments=(TIMED,), duration=7.0), "tsv")
    assert text == "start\tend\ttext\n900\t3200\tHow are you? Fine!\n"


def test_subtitles_split_where_words_have_times_and_only_there() -> None:
    assert to_text(TRANSCRIPT, "srt") == (
        "1\n00:00:01,000 --> 00:00:01,600\nHow are you?\n\n"
        "2\n00:00:02,500 --> 00:00:03,000\nFine!\n\n"
        "3\n00:00:04,000 --> 00:00:06,000\nA: 一<二> & {三} 四\n"
    )


def test_webvtt_escapes_what_would_be_a_tag() -> None:
    text = to_text(TRANSCRIPT, "vtt")
    assert text.startswith("WEBVTT\n\n1\n00:00:01.000 --> 00:00:01.600\nHow are you?\n")
    assert "<v A>一&lt;二&gt; &amp; {三} 四\n" in text


def test_a_speakers_name_is_no_tag_either() -> None:
    transcript = Transcript(segments=(Segment(text="hi", start=0.0, end=1.0, speaker="<b>&"),), duration=1.0)
    assert "<v &lt;b&gt;&amp;>hi\n" in to_text(transcript, "vtt")
    assert "<b>&: hi\n" in to_text(transcript, "srt")


def test_substation_text_holds_no_command_and_its_speaker_is_in_a_field_too() -> None:
    said = Segment(text="a{b}\\Nc, d", start=0.0, end=1.0, speaker="Li, A")
    text = to_text(Transcript(segments=(said,), duration=1.0), "ass")
    assert text.startswith("[Script Info]\n")
    assert text.endswith("Dialogue: 0,0:00:00.00,0:00:01.00,Default,Li A,0,0,0,,Li, A: a\\{b}\\\u2060Nc, d\n")


def test_every_subtitle_of_a_speaker_names_it_and_counts_the_name_in_its_width() -> None:
    said = Segment(text=TIMED.text, start=0.9, end=3.2, words=WORDS, speaker="SPEAKER_01")
    text = to_text(Transcript(segments=(said,), duration=7.0), "srt")
    assert "\nSPEAKER_01: How are you?\n" in text
    assert "\nSPEAKER_01: Fine!\n" in text
    plain = Segment(text="one two three four five six seven eight nine ten", start=0.0, end=5.0, speaker="SPEAKER_01")
    (cue,) = cues(Transcript(segments=(plain,), duration=5.0))
    assert cue.lines == ["one two three four five six", "seven eight nine ten"]
    assert cue.voices == {0: "SPEAKER_01"}


def test_speakers_who_begin_at_once_are_both_named() -> None:
    both = tuple(Segment(text=f"I am {name}", start=1.0, end=2.0, speaker=name) for name in "AB")
    text = to_text(Transcript(segments=both, duration=2.0), "vtt")
    assert "<v A>I am A\n<v B>I am B\n" in text


def test_a_long_text_without_times_is_one_subtitle_of_several_lines() -> None:
    text = "一二三四五六七八九十，" * 5 + "one two three four five six seven eight nine ten"
    (cue,) = cues(Transcript(segments=(Segment(text=text, start=1, end=9),), duration=10))
    assert (cue.begin, cue.end) == (1000, 9000)
    assert len(cue.lines) > 3
    assert "".join("".join(cue.lines).split()) == "".join(text.split())
    assert not any(line.startswith("，") for line in cue.lines)


@given(st.lists(st.tuples(st.text(max_size=20), st.floats(0, 100), st.floats(0, 10)), max_size=8))
def test_every_format_writes_any_transcript(segments: list[tuple[str, float, float]]) -> None:
    parts = tuple(Segment(text=text, start=start, end=start + length) for text, start, length in segments)
    transcript = Transcript(segments=parts, duration=200.0)
    for name in FORMATS:
        to_text(transcript, name).encode("utf-8", "surrogatepass")


def tiers(transcript: Transcript, folder: Path) -> dict[str, list[tuple[float, float, str]]]:
    """The tiers of a TextGrid by their names, as another program reads them."""
    path = folder / "a.TextGrid"
    path.write_text(to_text(transcript, "textgrid"), encoding="utf-8")
    grid = praatio.textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="error")
    return {tier.name: [tuple(entry) for entry in tier.entries] for tier in grid.tiers}


def test_tiers_have_the_words_with_their_times(tmp_path: Path) -> None:
    words = [(word.start, word.end, word.text) for word in WORDS]
    assert tiers(Transcript(segments=(TIMED,), duration=7.0), tmp_path) == {"words": words}


def test_tiers_have_the_segments_where_no_word_has_times(tmp_path: Path) -> None:
    found = tiers(Transcript(segments=(PLAIN,), duration=7.0), tmp_path)
    assert found == {"A": [(4.0, 6.0, PLAIN.text)]}


def test_each_speaker_has_a_tier(tmp_path: Path) -> None:
    one = Segment(text="How are you?", start=1.0, end=1.6, words=WORDS[:3], speaker="SPEAKER_00")
    two = Segment(text="Fine!", start=2.5, end=3.0, words=WORDS[3:], speaker="SPEAKER_01")
    found = tiers(Transcript(segments=(one, two), duration=7.0), tmp_path)
    assert {name: [text for _, _, text in entries] for name, entries in found.items()} == {
        "SPEAKER_00": ["how", "are", "you"],
        "SPEAKER_01": ["fine"],
    }


@pytest.mark.parametrize("form", ["srt", "vtt", "ass"])
def test_subtitles_are_read_by_another_reader(form: str) -> None:
    events = pysubs2.SSAFile.from_string(to_text(TRANSCRIPT, form), form)
    assert [(event.start, event.end) for event in events] == [(1000, 1600), (2500, 3000), (4000, 6000)]


def test_an_unknown_format_lists_those_there_are() -> None:
    with pytest.raises(
        UsageError, match="format='doc': no such format; formats: txt, json, srt, vtt, ass, textgrid, tsv"
    ):
        to_text(TRANSCRIPT, "doc")
