"""Trains the thinker of the small omni model on the tasks, and measures how often it answers exactly."""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, ctc_loss
from tqdm import tqdm
from transformers import Qwen3OmniMoeForConditionalGeneration

from omni_batches import Example, Tensors, collate
from omni_experts import trained_quickly
from omni_model import TEXT
from omni_tasks import MODALITIES

# As in most real data there is more text than anything else.
MIX = {"text": 20, "audio": 14, "image": 9, "video": 5}
Omni = Qwen3OmniMoeForConditionalGeneration


def mixed_batches(
    examples: dict[str, list[Example]], mix: dict[str, int], steps: int, source: random.Random
) -> Iterator[list[Example]]:
    """Draws batches that have every modality in its share."""

    def forever(items: list[Example]) -> Iterator[Example]:
        while True:
            yield from source.sample(items, len(items))

    streams = {modality: forever(items) for modality, items in examples.items()}
    for _ in range(steps):
        yield [next(streams[modality]) for modality in MODALITIES for _ in range(mix[modality])]


def vary(example: Example, source: random.Random) -> Example:
    """Another voice of the same words: its bands of frequency moved a little, and some of them gone."""
    if example.modality != "audio":
        return example
    features = example.media["input_features"]
    bands = features.shape[1]
    moved = features[:, (torch.arange(bands) + source.randint(-2, 2)).clamp(0, bands - 1)]
    first = source.randrange(bands)
    moved[:, first : first + source.randint(0, 8)] = features.mean()
    return replace(example, media={"input_features": moved})


class Listener(nn.Module):
    """Helps the audio tower to learn: should know from its output alone which digits are said; thrown away later."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 11)

    def forward(self, heard: torch.Tensor, lengths: list[int], targets: list[str]) -> torch.Tensor:
        """Compute the CTC loss of the digits.

        Args:
            heard: The audio tower's tokens of all clips, one after the other.
            lengths: How many tokens each clip has.
            targets: The digits.
        """
        pieces = nn.utils.rnn.pad_sequence(list(self.score(heard).split(lengths))).log_softmax(-1)
        digits = torch.tensor([int(digit) + 1 for target in targets for digit in target])
        sizes = torch.tensor([len(target) for target in targets])
        return ctc_loss(pieces, digits, torch.tensor(lengths), sizes, zero_infinity=True)


def padding_of(model: Omni) -> int:
    """Return the token to fill batches with."""
    config: Any = model.config
    return int(config.thinker_config.text_config.pad_token_id)


def heard_loss(model: Omni, listener: Listener, batch: list[Example], embedded: torch.Tensor) -> torch.Tensor:
    """Compute the listener's loss on a batch, from the thinker's input embeddings."""
    config: Any = model.config
    audio = config.thinker_config.audio_token_id
    rows = [row for row, example in enumerate(batch) if example.modality == "audio"]
    pieces = [embedded[row, : len(batch[row].ids)][batch[row].ids == audio] for row in rows]
    loss: torch.Tensor = listener(
        torch.cat(pieces), [len(piece) for piece in pieces], [batch[row].target for row in rows]
    )
    return loss


@torch.no_grad()
def exact(model: Omni, examples: list[Example]) -> dict[str, float]:
    """Share of each modality's examples whose every token of the answer is the likeliest: what greedy decoding says."""
    model.eval()
    right: Counter[str] = Counter()
    for start in range(0, len(examples), 64):
        batch = examples[start : start + 64]
        arguments, following = collate(batch, padding_of(model))
        logits = model.thinker(**arguments, use_cache=False).logits
        good = ((logits.argmax(-1) == following) | (following == -100)).all(-1)
        right.update(example.modality for example, fine in zip(batch, good.tolist(), strict=True) if fine)
    count = Counter(example.modality for example in examples)
    return {modality: right[modality] / count[modality] for modality in MODALITIES if count[modality]}


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    Attributes:
        steps: How many.
        rate: Highest learning rate.
        hear: Weight of the listener's loss.
        mix: How many examples of each modality a batch has.
    """

    steps: int
    rate: float
    hear: float = 0.0
    mix: dict[str, int] = field(default_factory=lambda: MIX)


def schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule that rises over the first steps and then falls to zero as a cosine."""
    warmup = min(150, steps // 10 + 1)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(step / steps, 1)))
    )


def step_losses(
    model: Omni, listener: Listener, batch: list[Example], arguments: Tensors, following: torch.Tensor
) -> Tensors:
    """Compute the loss of the answers, and the listener's."""
    embedded: list[torch.Tensor] = []
    hook = model.thinker.model.language_model.register_forward_pre_hook(
        lambda _, __, given: embedded.append(given["inputs_embeds"]), with_kwargs=True
    )
    try:
        hidden = model.thinker.model(**arguments, use_cache=False).last_hidden_state
    finally:
        hook.remove()
    is_answer = following != -100
    answer = cross_entropy(model.thinker.lm_head(hidden[is_answer]), following[is_answer])
    return {"answer": answer, "heard": heard_loss(model, listener, batch, embedded[0])}


def train_thinker(
    model: Omni, examples: dict[str, list[Example]], dev: list[Example], phase: Phase, options: argparse.Namespace
) -> float:
    """Trains the thinker in place for a phase and returns the mean loss of its last hundred steps."""
    torch.manual_seed(options.seed)
    source, listener = random.Random(f"{options.seed}-{phase.steps}"), Listener(TEXT["hidden_size"])
    weights = [*model.thinker.parameters(), *listener.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=phase.rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    rates, padding, recent = schedule(optimizer, phase.steps), padding_of(model), [0.0]
    batches = mixed_batches(examples, phase.mix, phase.steps, source)
    with trained_quickly(model.thinker) as training, tqdm(total=phase.steps, desc="thinker", unit="step") as bar:
        for step, batch in enumerate(batches, 1):
            model.train()
            arguments, following = collate([vary(example, source) for example in batch], padding)
            training.begin(arguments["attention_mask"])
            losses = step_losses(model, listener, batch, arguments, following)
            whole = losses["answer"] + phase.hear * losses["heard"]
            whole = whole + options.balance * training.balance
            optimizer.zero_grad()
            whole.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            rates.step()
            recent = [*recent[-99:], losses["answer"].item()]
            bar.update()
            if step % options.every == 0 or step == phase.steps:
                shares = {name: round(share, 3) for name, share in exact(model, dev).items()}
                balance = {"balance": torch.as_tensor(training.balance)}
                numbers = {name: round(float(value), 3) for name, value in (losses | balance).items()}
                tqdm.write(f"step {step}: loss {sum(recent) / len(recent):.4f}, right {shares}, {numbers}")
    return sum(recent) / len(recent)
