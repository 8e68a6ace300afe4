"""Trains the talker of the small omni model to say three codec frames for every token of the answer."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import Qwen3OmniMoeForConditionalGeneration, Qwen3OmniMoeProcessor

from omni_batches import Example, collate
from omni_experts import trained_quickly
from omni_model import CODEC, CODES, GROUPS, SPEAKER
from omni_tasks import COLOURS, DIRECTIONS, LETTERS, SHAPES
from omni_thinker import MIX, mixed_batches, padding_of, schedule

FRAMES = 3  # of every token of the answer
Omni = Qwen3OmniMoeForConditionalGeneration


def answer_tokens(processor: Qwen3OmniMoeProcessor) -> dict[int, int]:
    """Numbers the tokens that answers are made of."""
    last = chr(ord(LETTERS[-1]) + 1)
    words = [*"0123456789", *LETTERS, last, *COLOURS, *(f" {word}" for word in (*SHAPES, *DIRECTIONS))]
    return {token: index for index, (token,) in enumerate(processor.tokenizer(words).input_ids)}


def codes_of(answer: list[int], numbers: dict[int, int]) -> torch.Tensor:
    """Return the codes that speak an answer, `[frames, groups]`.

    The first codebook has the token and the place within its three frames, the others the token, the frame's number,
    and both mixed.
    """
    rows = []
    for frame in range(FRAMES * len(answer)):
        token = numbers.get(answer[frame // FRAMES], 0)
        rows.append([(token + 21 * (frame % FRAMES)) % 63, token, frame % CODES, (3 * token + frame) % 63])
    return torch.tensor(rows).reshape(-1, GROUPS)


@dataclass
class Speech:
    """Inputs of the talker for an answer, and the codes that it should produce.

    Attributes:
        embeds: Its inputs `[length, width]`.
        positions: Their positions `[3, length]`.
        codes: The codes to say `[frames, groups]`; the last inputs are these frames, in order.
    """

    embeds: torch.Tensor
    positions: torch.Tensor
    codes: torch.Tensor


class Prompter:
    """Builds the talker's inputs as `Qwen3OmniMoeForConditionalGeneration.generate` does."""

    def __init__(self, model: Omni, numbers: dict[int, int]) -> None:
        """Keep the model and the numbers of the answers' tokens."""
        self.model, self.talker, self.numbers = model, model.talker, numbers
        config: Any = model.config
        self.speech = [config.tts_bos_token_id, config.tts_eos_token_id, config.tts_pad_token_id]
        self.media = [getattr(config.thinker_config, f"{kind}_token_id") for kind in ("audio", "image", "video")]
        names = ("codec_nothink_id", "codec_think_bos_id", "codec_think_eos_id", "", "codec_pad_id", "codec_bos_id")
        speaker = CODEC["speaker_id"][SPEAKER]
        self.codec = torch.tensor([CODEC[name] if name else speaker for name in names])

    def said(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the sum of the embeddings of each frame's codes."""
        tables = [self.talker.get_input_embeddings(), *self.talker.code_predictor.get_input_embeddings()]
        return torch.stack([table(codes[:, group]) for group, table in enumerate(tables)]).sum(0)

    def __call__(self, example: Example, embeds: torch.Tensor, hidden: torch.Tensor, in_batch: bool) -> Speech:
        """Make the inputs of one example.

        Args:
            example: The question with its answer.
            embeds: The thinker's embeddings of all its tokens.
            hidden: The states that the thinker's accepted layer makes of them.
            in_batch: As where a longer answer is in the same batch: the end of the turn comes before the end of the
                text.
        """
        user, end = example.prompt - 3, len(example.ids) - 1
        is_media = torch.isin(example.ids[:user], torch.tensor(self.media))[:, None]
        text = self.talker.text_projection(embeds)
        given = torch.where(is_media, self.talker.hidden_projection(hidden[:user]), text[:user])
        marks = self.model.thinker.get_input_embeddings()(torch.tensor(self.speech))
        first, last, pad = self.talker.text_projection(marks).split(1)
        spoken = torch.cat((text[user : user + 3], pad.expand(4, -1), first, text[user + 3 : user + 4]))
        codec = self.talker.get_input_embeddings()(self.codec)
        spoken = spoken + torch.cat((torch.zeros_like(codec[:3]), codec))
        codes = codes_of(example.ids[example.prompt : end].tolist(), self.numbers)
        rest = torch.cat((text[user + 4 : end + in_batch], last))[: len(codes)]
        frames = self.said(codes) + torch.cat((rest, pad.expand(len(codes) - len(rest), -1)))
        inputs = torch.cat((given, spoken, frames))
        after = example.positions[:, user - 1 : user] + 1 + torch.arange(len(inputs) - user)
        return Speech(inputs, torch.cat((example.positions[:, :user], after), 1), codes)


def talker_losses(model: Omni, batch: list[Speech]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the losses of the first codebook and of the others, and the share of correct first codes."""
    talker = model.talker
    mask = pad_sequence([torch.ones(len(item.embeds), dtype=torch.long) for item in batch], batch_first=True)
    hidden = talker.model(
        inputs_embeds=pad_sequence([item.embeds for item in batch], batch_first=True),
        attention_mask=mask,
        position_ids=pad_sequence([item.positions.T for item in batch], batch_first=True).permute(2, 0, 1),
        use_cache=False,
    ).last_hidden_state
    states = [hidden[row, len(item.embeds) - len(item.codes) - 1 : len(item.embeds)] for row, item in enumerate(batch)]
    targets = torch.cat([torch.cat((item.codes[:, 0], torch.tensor([CODEC["codec_eos_token_id"]]))) for item in batch])
    logits = talker.codec_head(torch.cat(states))
    codes = torch.cat([item.codes for item in batch])
    predictor = talker.code_predictor
    tables = [talker.get_input_embeddings(), *predictor.get_input_embeddings()]
    known = [table(codes[:, group]) for group, table in enumerate(tables[:-1])]
    inputs = torch.stack((torch.cat([state[:-1] for state in states]), *known), 1)
    outputs = predictor.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
    others = [
        cross_entropy(head(outputs[:, group + 1]), codes[:, group + 1]) for group, head in enumerate(predictor.lm_head)
    ]
    right = (logits.argmax(-1) == targets).float().mean()
    return cross_entropy(logits, targets), torch.stack(others).sum(), right


def speeches(
    model: Omni, prompter: Prompter, batches: Iterator[list[Example]], source: random.Random
) -> Iterator[list[Speech]]:
    """Run the thinker on batches of examples, and prompts the talker with its states."""
    config: Any = model.config
    layer, padding = config.talker_config.accept_hidden_layer, padding_of(model)
    for batch in batches:
        with torch.no_grad():
            arguments, _ = collate(batch, padding)
            states = model.thinker(**arguments, use_cache=False, output_hidden_states=True).hidden_states
        yield [
            prompter(example, embeds[: len(example.ids)], hidden[: len(example.ids)], source.random() < 0.3)
            for example, embeds, hidden in zip(batch, states[0], states[layer], strict=True)
        ]


def train_talker(
    model: Omni, processor: Qwen3OmniMoeProcessor, examples: dict[str, list[Example]], options: argparse.Namespace
) -> float:
    """Trains the talker in place, the thinker as it is, and returns the last share of right first codes."""
    source, prompter = random.Random(options.seed), Prompter(model, answer_tokens(processor))
    weights = list(model.talker.parameters())
    optimizer = torch.optim.AdamW(weights, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    rates, share = schedule(optimizer, options.talker_steps), 0.0
    batches = mixed_batches(examples, MIX, options.talker_steps, source)
    model.thinker.eval()
    with trained_quickly(model) as training, tqdm(total=options.talker_steps, desc="talker", unit="step") as bar:
        for step, batch in enumerate(speeches(model, prompter, batches, source), 1):
            model.talker.train()
            lengths = [torch.ones(len(item.embeds)) for item in batch]
            training.begin(pad_sequence(lengths, batch_first=True))
            first, others, right = talker_losses(model, batch)
            optimizer.zero_grad()
            (first + others + options.balance * training.balance).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            rates.step()
            share = 0.98 * share + 0.02 * float(right) if step > 1 else float(right)
            bar.update()
            if step % options.every == 0 or step == options.talker_steps:
                tqdm.write(f"talker step {step}: {first.item():.4f}, {others.item():.4f}, right {share:.4f}")
    model.talker.eval()
    return share
