"""Measures a written omni model with stock Transformers: its answers, its speech and which experts it uses."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import Qwen3OmniMoeForConditionalGeneration, Qwen3OmniMoeProcessor

from omni_batches import ask
from omni_data import read_rows
from omni_model import VOCODER
from omni_talker import FRAMES
from omni_tasks import MODALITIES

Omni = Qwen3OmniMoeForConditionalGeneration


@torch.no_grad()
def answer(model: Omni, processor: Qwen3OmniMoeProcessor, row: dict[str, Any]) -> str:
    """What the thinker answers, always its likeliest token."""
    asked: dict[str, Any] = ask(processor, row["messages"])
    found = model.generate(
        **asked, return_audio=False, thinker_max_new_tokens=16, thinker_do_sample=False,
        thinker_eos_token_id=processor.tokenizer.eos_token_id,
    )  # fmt: skip
    return str(processor.tokenizer.decode(found[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


def samples_of(frames: int) -> int:
    """Length of the waveform that the vocoder makes of so many codec frames; its convolutions cut the end."""
    upsample = 1
    for rate in (*VOCODER["upsampling_ratios"], *VOCODER["upsample_rates"]):
        upsample *= rate
    cut, rate = 0, 1
    for factor in reversed(VOCODER["upsample_rates"]):
        cut, rate = cut + factor * rate, rate * factor
    return frames * upsample - cut


@torch.no_grad()
def speech_is_right(model: Omni, processor: Qwen3OmniMoeProcessor, row: dict[str, Any]) -> bool:
    """Whether the model says three frames for every token of its answer and then ends."""
    asked: dict[str, Any] = ask(processor, row["messages"])
    ids, wave = model.generate(
        **asked, return_audio=True, thinker_max_new_tokens=16, talker_max_new_tokens=64, thinker_do_sample=False,
        talker_do_sample=False, thinker_eos_token_id=processor.tokenizer.eos_token_id,
    )  # fmt: skip
    tokens = ids.shape[1] - asked["input_ids"].shape[1] - 1
    return bool(wave.shape[-1] == samples_of(FRAMES * tokens))


@torch.no_grad()
def usage(model: Omni, processor: Qwen3OmniMoeProcessor, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which experts of each layer the modalities' questions use.

    Returns:
        For every layer how many experts do nine tenths of each modality's work, and how far apart the modalities' usage
        is, from 0 for the same experts to 1 for none in common.
    """
    routers = [layer.mlp.gate for layer in model.thinker.model.language_model.layers]
    counts: dict[str, list[torch.Tensor]] = defaultdict(list)
    chosen: list[torch.Tensor] = []
    hooks = [router.register_forward_hook(lambda _, __, found: chosen.append(found[2])) for router in routers]
    for row in rows:
        chosen.clear()
        model.thinker(**ask(processor, row["messages"]))
        counts[row["modality"]].append(
            torch.stack([torch.bincount(item.flatten(), minlength=routers[0].num_experts) for item in chosen])
        )
    for hook in hooks:
        hook.remove()
    shares = {modality: torch.stack(found).sum(0).double() for modality, found in counts.items()}
    shares = {modality: found / found.sum(-1, keepdim=True) for modality, found in shares.items()}
    return [
        layer_usage({modality: found[layer] for modality, found in shares.items()}) for layer in range(len(routers))
    ]


def layer_usage(shares: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The figures of one layer, from each modality's share of every expert."""
    used = {
        modality: int((share.sort(descending=True).values.cumsum(0) < 0.9).sum()) + 1
        for modality, share in shares.items()
    }
    apart = {
        f"{one}-{other}": round(float((shares[one] - shares[other]).abs().sum()) / 2, 3)
        for one, other in combinations(MODALITIES, 2)
    }
    return {"experts_for_nine_tenths": used, "distance": apart}


def measure(folder: Path, data: Path) -> dict[str, Any]:
    """Loads the written model as anyone would, and measures it on the test data."""
    model, processor = Omni.from_pretrained(folder).eval(), Qwen3OmniMoeProcessor.from_pretrained(folder)
    rows = read_rows(data / "test.jsonl")
    right: dict[str, list[bool]] = defaultdict(list)
    for row in tqdm(rows, "measuring answers", unit="question"):
        right[row["modality"]].append(answer(model, processor, row) == row["target"])
    spoken = [speech_is_right(model, processor, row) for row in tqdm(rows[::10], "measuring speech", unit="answer")]
    return {
        "test_exact": {modality: round(sum(found) / len(found), 4) for modality, found in right.items()},
        "test_speech_length_right": round(sum(spoken) / len(spoken), 4),
        "usage": usage(model, processor, rows[::4]),
    }
