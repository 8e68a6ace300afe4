"""Speech that is made of bursts of noise, one a word, and a model that hears it: its times are known."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

RATE = 16000
CHARACTERS = "一二三四五六七八九十"


@dataclass
class Talk:
    """Audio, its text, and the true times of its words."""

    audio: NDArray[np.float32]
    text: str
    times: list[tuple[float, float]]


def make_talk(seconds: float, seed: int = 0, quiet: tuple[float, float] = (0.0, 0.0), floor: float = 0.001) -> Talk:
    """Phrases of 2 to 12 words with pauses of 0.3 to 2 s between them; nobody speaks in the stretch ``quiet``."""
    random = np.random.default_rng(seed)
    audio = floor * random.standard_normal(round(seconds * RATE)).astype(np.float32)
    times, place = [], random.uniform(0.1, 2)
    while place < seconds - 1:
        for _ in range(random.integers(2, 13)):
            end = place + random.uniform(0.15, 0.6)
            if end > seconds - 0.2:
                break
            if not (place < quiet[1] and end > quiet[0]):
                begin, stop = round(place * RATE), round(end * RATE)
                audio[begin:stop] += random.uniform(0.1, 0.4) * random.standard_normal(stop - begin)
                times.append((place, end))
            place = end + 0.06
        place += random.uniform(0.3, 2)
    return Talk(audio, "".join(random.choice(list(CHARACTERS)) for _ in times), times)


class Listener:
    """Gives the n-th word the n-th burst that it hears; words that were not said get times that mean nothing."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, processor: Any, nonsense: str = "end", labels: int = 5000) -> None:
        self.nonsense = nonsense
        self.config = SimpleNamespace(
            num_labels=labels, timestamp_token_id=processor.tokenizer.convert_tokens_to_ids("<timestamp>")
        )
        self.windows: list[float] = []
        self.random = np.random.default_rng(0)

    def __call__(
        self, input_ids: Any, input_features: Any, input_features_mask: Any, attention_mask: Any, use_cache: bool
    ) -> Any:
        assert not use_cache
        slots = (input_ids[0] == self.config.timestamp_token_id).nonzero().flatten()
        frames = int(input_features_mask.sum())
        self.windows.append(frames / 100)
        bursts = self.bursts(input_features[0, :, :frames].mean(dim=0).numpy())
        count = len(slots) // 2
        last = frames / 100
        junk = {
            "end": np.full((count, 2), last),
            "anywhere": np.sort(self.random.uniform(0, last, (count, 2)), axis=1),
            "start": np.zeros((count, 2)),
        }[self.nonsense]
        said = np.asarray(bursts[:count]).reshape(-1, 2)
        times = np.concatenate([said, junk[len(said) :]])
        logits = torch.zeros(1, input_ids.shape[1], self.config.num_labels)
        labels = torch.from_numpy((times.ravel() / 0.08).round()).long().clamp(max=self.config.num_labels - 1)
        sure = torch.where(torch.arange(2 * count) < 2 * len(said), 20.0, 8.0)
        logits[0, slots, labels] = sure
        return SimpleNamespace(logits=logits)

    def bursts(self, level: NDArray[np.float32]) -> NDArray[np.float64]:
        """Begin and end of every stretch that is loud, in seconds."""
        middle = (np.percentile(level, 1) + level.max()) / 2
        loud = np.concatenate([[False], level > middle, [False]]).astype(np.int8)
        return np.flatnonzero(np.diff(loud)).reshape(-1, 2) / 100
