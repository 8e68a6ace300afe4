"""Measures a written omni model: its answers, its speech and which experts it uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import sottovoce
from omni_talker import FRAMES
from omni_tasks import MODALITIES
from sottovoce import Model, Sample
from sottovoce_omni_moe.conversation import inputs, predict
from sottovoce_omni_moe.speech import Speech, speak

LONGEST_SPEECH = 64  # frames: more than any answer's


def say(model: Model, sample: Sample) -> tuple[Speech, bool]:
    """Return the model's speech, and true if it has three frames for every token of the answer and then ends."""
    tokens = len(predict(model, sample).tokens) - 1  # the last one ends the turn
    speech = speak(model, sample, most_frames=LONGEST_SPEECH)
    return speech, not speech.runaway and len(speech.frames) == FRAMES * tokens


def speech_share(model: Model, samples: Sequence[Sample]) -> float:
    """Share of the answers whose speech is as long as it should be.

    An untrained talker may say nothing, or never end: both are counted as wrong, and told.
    """
    said = [say(model, sample) for sample in tqdm(samples, "measuring speech", unit="answer")]
    if not any(speech.text for speech, _ in said):
        tqdm.write("The thinker answers nothing, so there is nothing to say: it is not trained.")
    elif not any(speech.frames for speech, _ in said):
        tqdm.write("The talker says nothing, whatever the answer: it is not trained. Give it more --talker-steps.")
    elif all(speech.runaway for speech, _ in said):
        tqdm.write("The talker never comes to an end: it is not trained enough. Give it more --talker-steps.")
    return round(sum(right for speech, right in said if speech.frames) / len(said), 4)


@torch.no_grad()
def usage(model: Model, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Measure the experts of each layer that the modalities' questions use.

    Returns:
        For every layer how many experts do nine tenths of each modality's work, and how far apart the modalities' usage
        is, from 0 for the same experts to 1 for none in common.
    """
    thinker = model.native.thinker
    routers = [layer.mlp.gate for layer in thinker.model.language_model.layers]
    counts: dict[str, list[torch.Tensor]] = defaultdict(list)
    chosen: list[torch.Tensor] = []
    hooks = [router.register_forward_hook(lambda _, __, tensors: chosen.append(tensors[2])) for router in routers]
    for sample in samples:
        chosen.clear()
        thinker(**inputs(model, sample))
        counts[sample.modality].append(
            torch.stack([torch.bincount(item.flatten(), minlength=routers[0].num_experts) for item in chosen])
        )
    for hook in hooks:
        hook.remove()
    shares = {modality: torch.stack(tensors).sum(0).double() for modality, tensors in counts.items()}
    shares = {modality: tensors / tensors.sum(-1, keepdim=True) for modality, tensors in shares.items()}
    return [
        layer_usage({modality: tensors[layer] for modality, tensors in shares.items()}) for layer in range(len(routers))
    ]


def layer_usage(shares: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return the figures of a layer, from each modality's share of every expert."""
    used = {
        modality: int((share.sort(descending=True).values.cumsum(0) < 0.9).sum()) + 1
        for modality, share in shares.items()
    }
    apart = {
        f"{first}-{other}": round(float((shares[first] - shares[other]).abs().sum()) / 2, 3)
        for first, other in combinations(MODALITIES, 2)
    }
    return {"experts_for_nine_tenths": used, "distance": apart}


def measure(folder: Path, data: Path) -> dict[str, Any]:
    """Load the written model as anyone would, and measures it on the test data."""
    model, samples = sottovoce.load(folder), sottovoce.read_samples(data / "test.jsonl")
    with tqdm(total=len(samples), desc="measuring answers", unit="question") as bar:
        metrics = sottovoce.evaluate(model, samples, progress=lambda *_: bar.update()).metrics
    return {
        "test_exact": {modality: round(metrics[f"accuracy_{modality}"].value / 100, 4) for modality in MODALITIES},
        "test_speech_length_right": speech_share(model, samples[::10]),
        "usage": usage(model, samples[::4]),
    }
