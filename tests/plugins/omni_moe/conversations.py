"""Conversations about noise and about pictures of noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from sottovoce import Sample

ANSWER = "a cat"


def noise(seconds: float = 1.0, seed: int = 0) -> Any:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16000 * seconds)).astype(np.float32)


def picture(seed: int = 0, height: int = 20, width: int = 28) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def content(*kinds: str) -> list[dict[str, Any]]:
    media = {"audio": noise(), "image": picture(), "video": [picture(seed) for seed in range(3)], "text": "hm, "}
    return [*({"type": kind, kind: media[kind]} for kind in kinds), {"type": "text", "text": "what is it?"}]


def ask(*kinds: str, answer: str | None = ANSWER, **last: Any) -> Sample:
    """A question about media; with ``last``, the answer is a message of the assistant's."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": content(*kinds)},
    ]
    if last:
        return Sample(key="-".join(kinds), messages=[*messages, {"role": "assistant", "content": answer, **last}])
    return Sample(key="-".join(kinds), messages=messages, text=answer)


ALL = {"text": ("text",), "audio": ("audio",), "image": ("image",), "video": ("video",), "mixed": ("image", "audio")}
