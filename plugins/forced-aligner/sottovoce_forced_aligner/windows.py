"""Audio longer than the model takes, in windows: aligning itself shows which words a window holds.

The transcript of long audio does not say which of its words a window holds. So a window is given its audio and more
words than it can hold. The model reads words from first to last, and none looks at those behind it: words that were
said in the window get the times that they would get without the rest, and those behind its end get times that mean
nothing. A window therefore ends at a silence well before its end, where the words on both sides are sure of their
side, and the next one resumes there with the words that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sottovoce.system.audio import SAMPLE_RATE
from sottovoce.transcription.silences import FRAME, SECONDS, find_silences, loud_frames

Times = list[tuple[float, float]]

NEIGHBOURS = 20
"""Words on each side of a cut, at most, that say how sure it is."""
EARLIEST, LATEST = 0.5, 0.9
"""Earliest and latest place of a cut, as shares of a window."""
SURPLUS, SPARE = 1.5, 20
"""Words that a window is given: a multiple of those that it should hold, and a number on top."""
SLOWEST, FASTEST = 2.0, 12.0
"""Words in a second of speech."""
CERTAIN = 8.0
"""Sure words on the other side of a cut that show, at most, that the words before it are over."""
DOUBTFUL, DISORDERED = 0.5, 0.8
"""Agreement below which a cut is a guess; share of words in order below which their times are."""
LEAD = 0.5
"""Seconds of a silence that are left before speech."""


class Reading(Protocol):
    """Output of the model for one window."""

    @property
    def times(self) -> NDArray[np.float64]:
        """Start and end of each word ``[words, 2]`` in seconds, as predicted: not yet in order."""

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Confidence in each word, 0 to 1 ``[words]``."""

    def repaired(self, count: int) -> Times:
        """Return the times of the first ``count`` words, put in order."""


Read = Callable[[NDArray[np.float32], Sequence[str]], Reading]


@dataclass(frozen=True)
class Cut:
    """A place where a window may end, and the words before it."""

    seconds: float
    words: int
    agreement: float
    """Agreement of the words around it that it is between them, -1 to 1."""
    order: float
    """Share of the words before it whose times are in order."""
    silence: float

    @property
    def doubtful(self) -> bool:
        """True if the text may be another than what is said."""
        return self.agreement < DOUBTFUL or self.order < DISORDERED


@dataclass(frozen=True)
class Window:
    """A part of the audio, in seconds, and the words in it."""

    begin: float
    end: float
    first: int
    """Number of its first word."""
    last: int
    """Number of the word behind its last."""
    doubtful: bool
    """If true, its words do not agree on their places."""


def align_in_windows(
    read: Read,
    audio: NDArray[np.float32],
    words: Sequence[str],
    seconds: float,
    progress: Callable[[int, int], None],
) -> tuple[Times, list[Window]]:
    """Align ``words`` with ``audio`` in windows of at most ``seconds``.

    Args:
        read: Runs the model on the audio and the words of one window.
        audio: All of it, mono at 16 kHz.
        words: All of the transcript's.
        seconds: Longest window.
        progress: Called with the seconds that are done and all seconds, which it ends with.

    Returns:
        Start and end of each word in seconds, never going back; and the windows, first to last.
    """
    limit, total = round(seconds / SECONDS) * FRAME, len(audio) / SAMPLE_RATE
    loud = loud_frames(audio)
    times: Times = []
    windows: list[Window] = []
    place = 0
    while len(times) < len(words):
        if len(audio) > limit:
            place += _quiet_lead(loud[place // FRAME :])
        left, begin, first = words[len(times) :], place / SAMPLE_RATE, len(times)
        if len(audio) - place <= limit:
            reading = read(audio[place:], left)
            spans, place = reading.repaired(len(left)), len(audio)
            doubtful = _order(reading.times.mean(axis=1)) < DISORDERED
        else:
            cut, spans = _window(read, audio[place : place + limit], loud[place // FRAME :], left)
            place += round(cut.seconds / SECONDS) * FRAME
            doubtful = cut.doubtful
        times += [(begin + start, begin + end) for start, end in spans]
        windows.append(Window(begin, place / SAMPLE_RATE, first, len(times), doubtful))
        progress(round(place / SAMPLE_RATE), round(total))
    progress(round(total), round(total))
    ordered = np.maximum.accumulate(np.asarray(times).ravel()).clip(0, total)
    return [(float(start), float(end)) for start, end in ordered.reshape(-1, 2)], windows


def _quiet_lead(loud: NDArray[np.bool_]) -> int:
    """Return the number of samples to leave out before the first speech; none where there is no more."""
    return max(0, int(loud.argmax()) - round(LEAD / SECONDS)) * FRAME


def _window(read: Read, audio: NDArray[np.float32], loud: NDArray[np.bool_], left: Sequence[str]) -> tuple[Cut, Times]:
    """Return the end of a window and the times of the words before it; ``loud`` extends to the end of the audio."""
    inside = loud[: len(audio) // FRAME]
    share = inside.sum() / max(1, loud.sum())
    most = min(len(left), round(FASTEST * inside.sum() * SECONDS) + SPARE)
    count = min(most, round(SURPLUS * share * len(left)) + SPARE)
    while True:
        reading = read(audio, left[:count])
        cut = best_cut(reading, inside)
        if count == most or cut.words < count:
            break
        # All words of the window may be said before the cut, so there may be more.
        count = min(most, 2 * count)
    times = reading.repaired(cut.words) if cut.words else []
    return cut, [(min(start, cut.seconds), min(end, cut.seconds)) for start, end in times]


def best_cut(reading: Reading, loud: NDArray[np.bool_]) -> Cut:
    """Return the cut in the longest silence, of those that the words agree on best."""
    low, high = EARLIEST * len(loud) * SECONDS, LATEST * len(loud) * SECONDS
    silences = [silence for silence in find_silences(loud) if low <= silence.middle <= high]
    cuts = [_cut(reading, loud, silence.middle, silence.length) for silence in silences]
    if not cuts:
        cuts = _cuts_between_words(reading, loud, low, high) or [_cut(reading, loud, high, 0.0)]
    best = max(cut.agreement for cut in cuts)
    return max((cut for cut in cuts if cut.agreement >= best - 0.05), key=lambda cut: (cut.silence, cut.seconds))


def _cuts_between_words(reading: Reading, loud: NDArray[np.bool_], low: float, high: float) -> list[Cut]:
    """Return the cuts in the gaps between words, for audio without a silence.

    Words that are said behind the window's end have arbitrary times. A gap between two of them can lie within a word,
    so a gap counts only where the words before it are those before the cut.
    """
    starts, ends = reading.times[1:, 0], reading.times[:-1, 1]
    gaps = zip(((starts + ends) / 2).tolist(), (starts - ends).tolist(), strict=True)
    cuts = []
    for number, (place, gap) in enumerate(gaps, 1):
        if gap >= 0 and low <= place <= high:
            cut = _cut(reading, loud, place, gap)
            cuts += [cut] if cut.words == number else []
    return cuts


def _cut(reading: Reading, loud: NDArray[np.bool_], place: float, length: float) -> Cut:
    """Count the words before ``place``: up to the first words that, weighted by confidence, lie behind it.

    Words behind the window's end have arbitrary times, so only the first words that agree count, and not all.
    """
    behind = float(loud[round(place / SECONDS) :].sum()) * SECONDS * SLOWEST
    enough = min(CERTAIN, max(1.5, behind / 2))
    middles = reading.times.mean(axis=1)
    # How sure a model is depends on how it was trained; what counts is who is less sure than the others.
    sure = np.minimum(1.0, reading.confidence / np.percentile(reading.confidence, 75))
    sides = np.where(middles <= place, 1.0, -1.0) * sure
    sums = np.concatenate([[0.0], np.cumsum(sides)])
    fallen = np.flatnonzero(np.maximum.accumulate(sums) - sums >= enough)
    count = int(sums[: fallen[0] if len(fallen) else None].argmax())
    after = min(NEIGHBOURS, max(2, int(behind)))
    first = max(0, count - NEIGHBOURS)
    around = np.concatenate([sides[first:count], -sides[count : count + after]])
    agreement = around.sum() / sure[first : count + after].sum()
    return Cut(place, count, float(agreement), _order(middles[:count]), length)


def _order(middles: NDArray[np.float64]) -> float:
    """Return the share of words whose times are in order."""
    return float((np.diff(middles) >= 0).mean()) if len(middles) > 1 else 1.0
