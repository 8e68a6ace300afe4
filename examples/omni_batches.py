"""Turns tasks into what the omni model's own processor makes of them, and those into batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen3OmniMoeForConditionalGeneration, Qwen3OmniMoeProcessor

from omni_model import END_OF_TURN
from omni_tasks import Task
from sottovoce_omni_moe.media import read_media

Tensors = dict[str, torch.Tensor]
MEDIA = {
    "audio": ("input_features",),
    "image": ("pixel_values", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_grid_thw", "video_second_per_grid"),
}


@dataclass(frozen=True)
class Example:
    """A task ready for training.

    Attributes:
        modality: The task's.
        target: The answer.
        ids: Tokens of the prompt and the answer, and the end of the turn.
        prompt: How many of them are the prompt.
        positions: Their positions in time, height and width, `[3, tokens]`.
        media: The processor's features, in half precision.
    """

    modality: str
    target: str
    ids: torch.Tensor
    prompt: int
    positions: torch.Tensor
    media: Tensors


def conversation(task: Task) -> list[dict[str, Any]]:
    """Return the user's message, with the media themselves instead of their paths."""
    content: list[dict[str, Any]] = [{"type": "text", "text": task.question}]
    if task.modality == "audio":
        content.insert(0, {"type": "audio", "audio": task.speech})
    elif task.modality == "image":
        content.insert(0, {"type": "image", "image": task.frames[0]})
    elif task.modality == "video":
        content.insert(0, {"type": "video", "video": task.frames})
    return [{"role": "user", "content": content}]


def ask(processor: Qwen3OmniMoeProcessor, messages: Sequence[Mapping[str, Any]]) -> Tensors:
    """Return the model's inputs for a conversation that ends before the assistant's answer."""
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[prompt], return_tensors="pt", **read_media(messages, "a task"))
    return {name: torch.as_tensor(value) for name, value in inputs.items()}


def prepare(task: Task, processor: Qwen3OmniMoeProcessor, model: Qwen3OmniMoeForConditionalGeneration) -> Example:
    """Make an example of a task."""
    inputs = ask(processor, conversation(task))
    answer = processor.tokenizer(task.target + END_OF_TURN, return_tensors="pt").input_ids
    ids = torch.cat((inputs["input_ids"], answer), 1)
    positions, _ = model.thinker.get_rope_index(
        ids,
        inputs.get("image_grid_thw"),
        inputs.get("video_grid_thw"),
        torch.ones_like(ids),
        second_per_grids=inputs.get("video_second_per_grid"),
    )
    media = {name: inputs[name] for name in MEDIA.get(task.modality, ())}
    for name, value in media.items():
        if name.startswith(("input", "pixel")):
            media[name] = value.half()
    return Example(task.modality, task.target, ids[0], inputs["input_ids"].shape[1], positions[:, 0].long(), media)


def join(examples: Iterable[Example], modality: str) -> Tensors:
    """Return the media of a modality's examples as arguments of the model's forward pass."""
    chosen = [example.media for example in examples if example.modality == modality]
    if not chosen:
        return {}
    if modality == "audio":
        frames = [media["input_features"][0].T.float() for media in chosen]
        mask = pad_sequence([torch.ones(len(item), dtype=torch.long) for item in frames], batch_first=True)
        features = pad_sequence(frames, batch_first=True).transpose(1, 2)
        return {"input_features": features, "feature_attention_mask": mask}
    joined = {name: torch.cat([media[name] for media in chosen]) for name in MEDIA.get(modality, ())}
    return {name: value.float() if name.startswith("pixel") else value for name, value in joined.items()}


def collate(examples: list[Example], padding: int) -> tuple[Tensors, torch.Tensor]:
    """Make a batch, padded on the right.

    Args:
        examples: Of any modalities.
        padding: Token to fill with.

    Returns:
        The arguments of the thinker's forward pass, and at every place the token that should follow: -100 outside
        the answers.
    """
    arguments: Tensors = {
        "input_ids": pad_sequence([example.ids for example in examples], batch_first=True, padding_value=padding),
        "attention_mask": pad_sequence([torch.ones_like(example.ids) for example in examples], batch_first=True),
        "position_ids": pad_sequence([item.positions.T for item in examples], batch_first=True).permute(2, 0, 1),
    }
    following = torch.full_like(arguments["input_ids"], -100)
    for row, example in enumerate(examples):
        following[row, example.prompt - 1 : len(example.ids) - 1] = example.ids[example.prompt :]
    for modality in MEDIA:
        arguments |= join(examples, modality)
    return arguments, following
