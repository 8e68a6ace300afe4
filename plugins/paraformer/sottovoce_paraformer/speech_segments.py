"""Segments of speech from the scores of FSMN-VAD: the rules of FunASR's ``FsmnVADStreaming``, for a whole recording.

FunASR applies them frame by frame and moves its buffers of samples along, which takes longer than the model does.
What decides is here: a window over the last frames says where speech begins and ends, and a silence of some length
ends a segment, as does the longest time that a segment may have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Settings of a detector, as numbers of frames."""

    window: int
    """Frames that are looked at together."""
    begin: int
    """Frames of speech in the window from which there is speech."""
    end: int
    """Frames of speech in the window up to which there is silence."""
    latency: int
    """Frames by which a segment begins before speech was detected."""
    silence: int
    """Milliseconds of silence that end a segment."""
    after: int
    """Frames of silence that belong to a segment."""
    extend: bool
    """If true, a segment takes in the first of the silence behind it."""
    longest: float
    """Frames of the longest segment."""
    frame: int
    """Milliseconds from a frame to the next."""

    @classmethod
    def of(cls, options: Any) -> Rules:
        """Return the rules of FunASR's ``VADXOptions``."""
        frame = options.frame_in_ms
        window = int(options.window_size_ms / frame)
        return cls(
            window=window,
            begin=int(options.sil_to_speech_time_thres / frame),
            end=int(options.speech_to_sil_time_thres / frame),
            latency=window + (int(options.lookback_time_start_point / frame) if options.do_extend else 0),
            silence=options.max_end_silence_time - options.speech_to_sil_time_thres,
            after=int(options.lookahead_time_end_point / frame),
            extend=bool(options.do_extend),
            longest=options.max_single_segment_time / frame,
            frame=frame,
        )

    @property
    def lookback(self) -> int:
        """Frames by which a segment ends before the silence that ended it was long enough."""
        frames = int(self.silence / self.frame)
        return max(0, frames - self.after - 1) if self.extend else frames


def segments(speech: Iterable[bool], rules: Rules) -> list[list[int]]:
    """Return start and end of each segment in milliseconds.

    Args:
        speech: One entry a frame, true where somebody speaks.
        rules: Settings of the detector.
    """
    machine = _Machine(rules)
    frames = list(speech)
    for number, frame in enumerate(frames):
        machine.step(number, frame, number == len(frames) - 1)
    return [[start * rules.frame, end * rules.frame] for start, end in machine.segments]


class _Machine:
    """Segments so far, and what of the frames before decides about the next one."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.segments: list[list[int]] = []
        self._free = 0
        """First frame that is neither in a segment nor passed by."""
        self._reset()

    def _reset(self) -> None:
        self._states = [False] * self.rules.window
        self._place = self._sum = self._silent = 0
        self._speaking = False
        self._start = -1
        """Frame at which the open segment starts; -1 while there is none."""

    def step(self, number: int, speech: bool, last: bool) -> None:
        """Take one frame."""
        before, rules = self._speaking, self.rules
        self._sum += speech - self._states[self._place]
        self._states[self._place] = speech
        self._place = (self._place + 1) % rules.window
        self._speaking = self._sum > rules.end if before else self._sum >= rules.begin
        if before or self._speaking:
            self._silent = 0
        else:
            self._silent += 1
        if self._start >= 0:
            self._inside(number, before, last)
        elif self._speaking and not before:
            self._start = max(self._free, number - rules.latency)
            self.segments.append([self._start, self._start])
            self._take(max(self._start, number))
        elif not self._speaking and not before and number >= rules.latency:
            self._free = max(self._free, number - rules.latency)

    def _inside(self, number: int, before: bool, last: bool) -> None:
        """Take a frame while a segment is open."""
        rules = self.rules
        silent = not before and not self._speaking
        if silent and self._silent * rules.frame >= rules.silence:
            self._close(number - rules.lookback)
        elif number - self._start + 1 > rules.longest or last:
            self._close(number)
        elif not silent or (rules.extend and self._silent <= rules.after):
            self._take(number)

    def _take(self, number: int) -> None:
        self.segments[-1][1] = number + 1
        self._free = max(self._free, number) + 1

    def _close(self, number: int) -> None:
        self._take(number)
        self._reset()
