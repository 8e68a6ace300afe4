"""Running the model on audio and words, and reading the words' times from its answer."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sottovoce.errors import SourceError, as_source_error
from sottovoce_forced_aligner.windows import Times, Window, align_in_windows

WINDOW = 180.0
"""Seconds of audio that the model takes at once, as in qwen-asr."""
LONGEST_WINDOW = 300.0
"""Seconds that the model was made for."""


def find_times(
    native: Any,
    processor: Any,
    audio: NDArray[np.float32],
    words: Sequence[str],
    window: float,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Times, list[Window]]:
    """Return start and end of each word in seconds, in order and within the audio, and the windows."""
    read = functools.partial(_read, native, processor)
    times, windows = align_in_windows(read, audio, words, window, progress or (lambda done, total: None))
    return [(round(start, 3), round(end, 3)) for start, end in times], windows


def split_words(processor: Any, text: str, language: str) -> list[str]:
    """Split a text into the words that are aligned; accents join their letters, or they would be lost."""
    words: list[str] = processor.split_words_for_alignment(unicodedata.normalize("NFC", text), language)
    return words


def longest_window(native: Any, processor: Any) -> float:
    """Return the seconds of audio that the model takes at once: it has a label for every step of time."""
    addressed: float = native.config.num_labels * processor.timestamp_segment_time / 1000
    return min(LONGEST_WINDOW, addressed)


def prepare(processor: Any, audio: NDArray[np.float32], words: Sequence[str]) -> Any:
    """Return the model's inputs for a piece of audio and the words in it, each with its two markers.

    Raises:
        SourceError: The processor's template puts something before the audio, as one for chat does.
    """
    content = [{"type": "audio", "audio": audio}, *({"type": "text", "text": word} for word in words)]
    batch = processor.apply_chat_template([[{"role": "user", "content": content}]], tokenize=True, return_dict=True)
    if batch["input_ids"][0, 0] != processor.audio_bos_token_id:
        # Nothing would fail: every boundary would be some 90 ms late.
        raise SourceError("the processor's template puts text before the audio; give the aligner's own processor")
    return batch


def run(native: Any, batch: Any) -> Tensor:
    """Return logits ``[1, positions, labels]``. No cache is kept: calibration runs the blocks many times."""
    logits: Tensor = native(**batch.to(native.device, native.dtype), use_cache=False).logits
    return logits


@dataclass(frozen=True)
class _Reading:
    """Output of the model for one window (see :class:`~sottovoce_forced_aligner.windows.Reading`)."""

    processor: Any
    words: Sequence[str]
    marker: int
    ids: Tensor
    logits: Tensor
    times: NDArray[np.float64]
    confidence: NDArray[np.float64]

    def repaired(self, count: int) -> Times:
        """Return the times of the first words, repaired by the processor: those of later words mean nothing."""
        end = int((self.ids == self.marker).nonzero()[2 * count - 1]) + 1
        decoded = self.processor.decode_forced_alignment(
            self.logits[None, :end], self.ids[None, :end], [list(self.words[:count])], self.marker
        )
        return [(item["start_time"], item["end_time"]) for item in decoded[0]]


def _read(native: Any, processor: Any, audio: NDArray[np.float32], words: Sequence[str]) -> _Reading:
    with (
        torch.inference_mode(),
        as_source_error(getattr(native, "name_or_path", "") or type(native).__name__, "the model does not run"),
    ):
        batch = prepare(processor, audio, words)
        logits = run(native, batch)[0].float().cpu()
    ids, marker = batch["input_ids"][0].cpu(), native.config.timestamp_token_id
    chances = logits[ids == marker].softmax(dim=-1)
    best = chances.argmax(dim=-1, keepdim=True)
    # A boundary that lies between two steps of time is shared by both.
    near = [chances.gather(1, (best + step).clamp(0, chances.shape[1] - 1)) for step in (-1, 0, 1)]
    times = best.reshape(-1, 2).double().numpy() * processor.timestamp_segment_time / 1000
    confidence = torch.cat(near, dim=1).sum(dim=1).reshape(-1, 2).double().mean(dim=1).numpy()
    return _Reading(processor, words, marker, ids, logits, times, confidence)
