"""Logits at a counted number of tokens: every token fires, whatever rounding does to the sum of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import sottovoce
from sottovoce_paraformer.recognition import counted_logits

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_last_token_fires_in_every_sample() -> None:
    model = sottovoce.load(EXAMPLES / "models" / "tiny-paraformer")
    embeddings: list[torch.Tensor] = []
    predictor: Any = model.module.predictor
    predictor.register_forward_hook(lambda _, __, outputs: embeddings.append(outputs[0][0]))
    for sample in sottovoce.read_samples(EXAMPLES / "data" / "mandarin-commands" / "dev.jsonl")[30:50]:
        with torch.inference_mode():
            logits = counted_logits(model, sample, None)
            again = counted_logits(model, sample, len(logits))
        assert len(embeddings[-1]) == len(logits)
        assert bool((embeddings[-1].norm(dim=-1) > 0.1).all()), sample.key
        assert logits.equal(again)
