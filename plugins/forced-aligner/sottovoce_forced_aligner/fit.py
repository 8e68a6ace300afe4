"""Signs in an alignment that a text does not fit its audio.

An aligner returns a time for every word, whatever was said. Words that it cannot place are crowded together or have no
length, and speech that is not in the text stays without words. The limits are well above those of good alignments: a
right text of clear speech shows none of these signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sottovoce.report.number_format import counted
from sottovoce.system.audio import SAMPLE_RATE
from sottovoce.transcription.silences import SECONDS, holds_speech, speech_frames
from sottovoce_forced_aligner.windows import FASTEST, Times, Window

LENGTHLESS = 0.25
"""Largest share of words without length in a window that fits; at least three such words count."""
CROWD = 6
"""Words that follow one another faster than anybody speaks before it counts; an aligner misplaces one or two."""
CROWDED = 0.05
"""Share of a window's words that must be so crowded at least."""
LEAST, MOST, PART = 0.8, 2.0, 0.25
"""Seconds of speech without words that count at least; that count always; share of all speech from which less does."""


class Speech:
    """Frames of an audio in which somebody speaks."""

    def __init__(self, audio: NDArray[np.float32]) -> None:
        """Take mono samples ``[time]`` at 16 kHz."""
        self.heard = holds_speech(audio)
        self._sums = np.concatenate([[0], np.cumsum(speech_frames(audio))]) * SECONDS

    def seconds(self, begin: float, end: float) -> float:
        """Return the seconds of speech between two times in seconds."""
        first, last = np.clip([round(begin / SECONDS), round(end / SECONDS)], 0, len(self._sums) - 1)
        return max(0.0, float(self._sums[last] - self._sums[first]))


def doubts(times: Times, windows: Sequence[Window], audio: NDArray[np.float32]) -> list[str]:
    """Return the signs that a text is not what is said in the audio, a sentence for each; none where it fits.

    Args:
        times: Start and end of each word in seconds, in order.
        windows: The parts that the audio was cut into, with their words.
        audio: All of it, mono at 16 kHz ``[time]``.
    """
    speech, spans = Speech(audio), np.asarray(times, dtype=np.float64).reshape(-1, 2)
    if not speech.heard:
        return ["nobody speaks in the audio: it is silent, or equally loud throughout"]
    checks = (check(spans, windows, speech) for check in (_disagreeing, _too_fast, _lengthless))
    return [*filter(None, checks), *_without_words(spans, speech, len(audio) / SAMPLE_RATE)]


def _disagreeing(spans: NDArray[np.float64], windows: Sequence[Window], speech: Speech) -> str | None:
    if not (places := [window for window in windows if window.doubtful]):
        return None
    return f"words do not agree on their places ({_where(places)}); is the text all that is said?"


def _too_fast(spans: NDArray[np.float64], windows: Sequence[Window], speech: Speech) -> str | None:
    places, words = [], 0
    for window in windows:
        count = window.last - window.first
        crowded = int(_crowded(spans[window.first : window.last, 0]).sum())
        surplus = count > FASTEST * speech.seconds(window.begin, window.end) + CROWD
        if surplus or crowded >= max(CROWD, CROWDED * count):
            places.append(window)
            words += count if surplus else crowded
    if not places:
        return None
    are = counted(words, "word is", "words are")
    return f"{are} faster than anybody speaks ({_where(places)}); is that what is said?"


def _crowded(starts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each word whether it is one of several in a row that begin faster than anybody speaks."""
    crowded = np.zeros(len(starts), dtype=np.bool_)
    fast = np.flatnonzero(starts[CROWD - 1 :] - starts[: 1 - CROWD] < (CROWD - 1) / FASTEST)
    for offset in range(CROWD):
        crowded[fast + offset] = True
    return crowded


def _lengthless(spans: NDArray[np.float64], windows: Sequence[Window], speech: Speech) -> str | None:
    places, words = [], 0
    for window in windows:
        inside = spans[window.first : window.last]
        count = int((inside[:, 1] <= inside[:, 0]).sum())
        if count >= 3 and count > LENGTHLESS * len(inside):
            places.append(window)
            words += count
    return (
        f"{counted(words, 'word has', 'words have')} no length ({_where(places)}); is that what is said?"
        if places
        else None
    )


def _without_words(spans: NDArray[np.float64], speech: Speech, duration: float) -> Iterator[str]:
    """Yield a sentence for the speech before, between and after the words, where there is much of it."""
    enough = min(MOST, max(LEAST, PART * speech.seconds(0, duration)))
    ends = np.concatenate([[0.0], spans[:, 1]])
    starts = np.concatenate([spans[:, 0], [duration]])
    left = [(speech.seconds(end, start), end, start) for end, start in zip(ends, starts, strict=True)]
    last = left.pop()
    if last[0] >= enough:
        yield f"{last[0]:.1f} s of speech after the last word ({_clock(last[1])}) have no words; is the text complete?"
    gaps = [gap for gap in left if gap[0] >= enough]
    if gaps:
        seconds, places = sum(gap[0] for gap in gaps), [f"{_clock(end)} to {_clock(start)}" for _, end, start in gaps]
        yield f"{seconds:.1f} s of speech have no words ({_listed(places)}); is the text complete?"


def _where(windows: Sequence[Window]) -> str:
    return _listed([f"{_clock(window.begin)} to {_clock(window.end)}" for window in windows])


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return ", ".join(places[:3]) + more


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"
