"""The talker's inputs: the conversation as the thinker has heard it, the text to say, and its codes so far.

This is the input that ``Qwen3OmniMoeForConditionalGeneration.generate`` makes, for one conversation: the user's part
with the thinker's hidden states for media and its embeddings for text; how the assistant's turn opens, with the
speaker; and then, for every frame of speech, the sum of its codes' embeddings and of the next token of the text.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sottovoce_omni_moe.turns import HEADER, last_turn, media_mask, users_mask

SPEAKER = "ethan"
"""Name of the voice that speaks when none is asked for, in a model that has it."""
_SILENT = 4
"""Positions in the opening that have no text."""


@dataclass(frozen=True)
class Opening:
    """Inputs of the talker before it says the first frame."""

    embeds: Tensor
    """``[positions, width]``"""
    places: Tensor
    """Of each in time, height and width ``[3, 1, positions]``."""
    trailing: Tensor
    """Text that is left, one row for each of the next frames ``[tokens, width]``; then come rows of ``silence``."""
    silence: Tensor
    """``[1, width]``"""


def speaks(native: Any) -> bool:
    """Return whether the model has a talker and a voice for it."""
    return bool(native.has_talker and native.config.talker_config.speaker_id)


def accepted_layer(native: Any) -> Any:
    """Return the layer of the thinker whose output the talker is given."""
    language = native.thinker.model.language_model
    # The last hidden states are those after the norm.
    layers = [*language.layers[:-1], language.norm]
    return layers[native.config.talker_config.accept_hidden_layer - 1]


@contextmanager
def listening(native: Any, prompt: Tensor) -> Iterator[list[Tensor]]:
    """Keep what the talker wants of the thinker's first pass: its states of the user's media ``[media tokens, width]``.

    Args:
        native: The whole model.
        prompt: The conversation's tokens, up to where the assistant begins to answer ``[tokens]``.
    """
    heard: list[Tensor] = []
    media = media_mask(native.config, prompt) & users_mask(native.config, prompt)
    if not (speaks(native) and media.any()):
        yield heard
        return
    thread = threading.get_ident()

    def keep(module: Any, arguments: Any, output: Any) -> None:
        # Others' passes through the same layer are in other threads.
        if not heard and threading.get_ident() == thread:
            states = output[0] if isinstance(output, tuple) else output
            heard.append(states[0, : len(media)][media.to(states.device)])

    handle = accepted_layer(native).register_forward_hook(keep)
    try:
        yield heard
    finally:
        handle.remove()


def run_talker(
    native: Any, batch: Mapping[str, Tensor], length: int, heard: list[Tensor], codes: Tensor | None = None
) -> Tensor:
    """Run the talker over a conversation, its answer and the answer's frames so far.

    Args:
        native: The whole model.
        batch: The thinker's inputs, with the answer.
        length: Number of tokens before the answer.
        heard: The states that :func:`listening` kept.
        codes: ``[frames, codebooks]``; none for the opening alone.

    Returns:
        The logits of the first codebook ``[positions, codes]``.
    """
    opening = open_speech(native, batch, length, heard)
    embeds, places = opening.embeds, opening.places
    if codes is not None:
        embeds = torch.cat((embeds, _frames(native, opening, codes.to(embeds.device))))
        after = torch.arange(1, len(codes) + 1, device=places.device)
        places = torch.cat((places, places[..., -1:] + after), dim=-1)
    logits: Tensor = native.talker(inputs_embeds=embeds[None], position_ids=places, use_cache=False).logits
    return logits[0]


def open_speech(native: Any, batch: Mapping[str, Tensor], length: int, heard: list[Tensor]) -> Opening:
    """Return everything before the first frame; without an answer it ends where the text would begin."""
    config, talker = native.config, native.talker
    table, ids = native.thinker.get_input_embeddings(), batch["input_ids"][0]

    def projected(tokens: Tensor) -> Tensor:
        rows: Tensor = talker.text_projection(table(tokens))
        return rows

    user, text = ids[:length][users_mask(config, ids[:length])], last_turn(config, ids, length)
    rows = projected(user)
    if heard:
        rows[media_mask(config, user)] = talker.hidden_projection(heard[0]).to(rows.dtype)
    special = [config.tts_bos_token_id, config.tts_eos_token_id, config.tts_pad_token_id]
    begin, end, silence = torch.split(projected(ids.new_tensor(special)), 1)
    turn = projected(text)
    said = turn[HEADER:]
    spoken = torch.cat((turn[:HEADER], silence.expand(_SILENT, -1), begin, said[:1]))
    codec = talker.get_input_embeddings()(ids.new_tensor(_codec_tokens(config.talker_config)))
    spoken[HEADER:] += codec[: len(spoken) - HEADER]
    return Opening(
        embeds=torch.cat((rows, spoken)),
        places=places(native, batch, talker_ids(config, ids, length)),
        trailing=torch.cat((said[1:], end)),
        silence=silence,
    )


def talker_ids(config: Any, ids: Tensor, length: int) -> Tensor:
    """Return tokens for the positions of the opening; ``length`` of the conversation's are not the answer's."""
    positions = HEADER + _SILENT + 1 + (len(last_turn(config, ids, length)) > HEADER)
    prompt = ids[:length]
    return torch.cat((prompt[users_mask(config, prompt)], ids.new_full((positions,), config.tts_pad_token_id)))


def _codec_tokens(config: Any) -> list[int]:
    voices = config.speaker_id
    speaker = voices.get(SPEAKER, next(iter(voices.values())))
    silent = [config.codec_nothink_id, config.codec_think_bos_id, config.codec_think_eos_id]
    return [*silent, speaker, config.codec_pad_id, config.codec_bos_id]


def _frames(native: Any, opening: Opening, codes: Tensor) -> Tensor:
    """Return the talker's inputs after each frame ``[frames, width]``."""
    rows: Tensor = native.talker.get_input_embeddings()(codes[:, 0])
    for group, table in enumerate(native.talker.code_predictor.get_input_embeddings(), 1):
        rows = rows + table(codes[:, group])
    text = opening.trailing[: len(codes)]
    return rows + torch.cat((text, opening.silence.expand(len(codes) - len(text), -1)))


def places(native: Any, batch: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Return the places in time, height and width ``[3, 1, tokens]`` of tokens ``[tokens]``, for a batch's media."""
    # The talker's own count fails for audio with pictures (transformers 5.23); the thinker's is the same.
    mask = batch.get("feature_attention_mask")
    places: Tensor = native.thinker.get_rope_index(
        ids[None],
        image_grid_thw=batch.get("image_grid_thw"),
        video_grid_thw=batch.get("video_grid_thw"),
        attention_mask=torch.ones_like(ids[None]),
        audio_seqlens=None if mask is None else mask.sum(dim=1),
        second_per_grids=batch.get("video_second_per_grid"),
    )[0]
    return places
