"""The model's own speech: for evaluation, and as frames for calibrating the talker."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sottovoce import Model, Sample
from sottovoce.errors import UsageError
from sottovoce.system.process_state import exclusive
from sottovoce_omni_moe.conversation import inputs, longest_answer
from sottovoce_omni_moe.talker import listening, open_speech, speaks

SAMPLE_RATE = 24000
"""Of the waveform, in Hz."""
MOST_FRAMES = 4096
"""Frames of speech at most, as transformers has it: 5 minutes and a half."""
_RESERVED = 1024
"""Codes at the end of the talker's vocabulary that are no sounds."""
_DRAWING = {"do_sample": True, "top_k": 50, "top_p": 1.0, "temperature": 0.9, "repetition_penalty": 1.05}
"""Settings by which transformers draws codes by default."""
_CHUNK, _CONTEXT = 300, 25
"""Frames that the vocoder takes at once, and those before them that it hears again."""


_log = logging.getLogger("sottovoce.omni_moe")


@dataclass(frozen=True)
class Speech:
    """An answer as text, frames and waveform."""

    text: str
    frames: tuple[tuple[int, ...], ...]
    """The codes, one for each codebook."""
    runaway: bool
    """If true, the talker did not come to an end by itself."""
    cut_off: bool
    """If true, the text ends at the limit of tokens, not where the thinker would have ended it."""
    waveform: NDArray[np.float32]
    """``[time]`` at 24 kHz, in -1 to 1."""

    @property
    def seconds(self) -> float:
        """Length of the waveform."""
        return len(self.waveform) / SAMPLE_RATE


def speak(model: Model, sample: Sample, *, most_frames: int = MOST_FRAMES, seed: int = 0) -> Speech:
    """Answer a conversation aloud: the text greedy, its speech drawn as transformers does by default, from ``seed``.

    Args:
        model: The model, with a talker.
        sample: The conversation.
        most_frames: Number of frames after which speech is cut off, as a runaway.
        seed: Of the draws; the state of torch's generators stays.

    Raises:
        UsageError: The model has no talker.
        SamplesError: As :func:`~sottovoce_omni_moe.conversation.inputs`.
    """
    said = _say(model, sample, most_frames, seed)
    frames = tuple(tuple(frame) for frame in said.codes.tolist())
    if not frames:
        return Speech(said.text, frames, said.runaway, said.cut_off, np.zeros(0, dtype=np.float32))
    with torch.inference_mode():
        wave = model.native.code2wav.chunked_decode(said.codes.T[None], chunk_size=_CHUNK, left_context_size=_CONTEXT)
    return Speech(said.text, frames, said.runaway, said.cut_off, wave.float().flatten().cpu().numpy())


def codes_of(model: Model, sample: Sample, *, most_frames: int = MOST_FRAMES, seed: int = 0) -> list[list[int]]:
    """Return the frames of the model's own speech, as an assistant's message in a manifest has them in ``codes``.

    They belong to the model's own answer, which :func:`~sottovoce_omni_moe.conversation.predict` gives: a manifest
    needs both. Arguments and errors are those of :func:`speak`; an answer that is cut off is logged.
    """
    said = _say(model, sample, most_frames, seed)
    if said.runaway or said.cut_off:
        what = "its speech was cut off" if said.runaway else "its text ends at the limit of tokens"
        _log.warning("sample %r: %s; it is better left out of a manifest", sample.key, what)
    codes: list[list[int]] = said.codes.tolist()
    return codes


class _Said(NamedTuple):
    text: str
    codes: Tensor
    """``[frames, codebooks]``"""
    runaway: bool
    cut_off: bool


def _say(model: Model, sample: Sample, most_frames: int, seed: int) -> _Said:
    native = model.native
    if not speaks(native):
        raise UsageError(f"{model.source.name}: has no talker, so it cannot speak; its answers are those of predict")
    batch = inputs(model, sample)
    length, end = batch["input_ids"].shape[1], native.config.im_end_token_id
    devices = [batch["input_ids"].device] if batch["input_ids"].is_cuda else []
    # Generators, and the filters of warnings, are the process's.
    with (
        torch.inference_mode(),
        exclusive(),
        torch.random.fork_rng(devices),
        listening(native, batch["input_ids"][0]) as heard,
    ):
        ids = native.thinker.generate(
            **batch, max_new_tokens=longest_answer(model, sample), do_sample=False, eos_token_id=end, pad_token_id=end
        )
        text = model.processor.tokenizer.decode(ids[0, length:], skip_special_tokens=True)
        cut_off = bool(ids[0, -1] != end)
        # The last token is the end; or the thinker has not read it, and transformers leaves it out too.
        batch["input_ids"] = ids[:, :-1]
        if batch["input_ids"].shape[1] == length:
            silence = torch.zeros(0, native.config.talker_config.num_code_groups, dtype=torch.long)
            return _Said(text, silence, False, cut_off)
        torch.manual_seed(seed)
        codes, runaway = _draw(native, batch, length, heard, most_frames)
    return _Said(text, codes, runaway, cut_off)


def _draw(
    native: Any, batch: Mapping[str, Tensor], length: int, heard: list[Tensor], most_frames: int
) -> tuple[Tensor, bool]:
    config = native.config.talker_config
    opening = open_speech(native, batch, length, heard)
    vocabulary, end = config.text_config.vocab_size, config.codec_eos_token_id
    with warnings.catch_warnings():
        # The penalty is meant for the speech alone.
        warnings.filterwarnings("ignore", message="Passing `repetition_penalty`")
        output = native.talker.generate(
            inputs_embeds=opening.embeds[None],
            position_ids=opening.places,
            attention_mask=opening.places.new_ones((1, len(opening.embeds)), dtype=torch.long),
            trailing_text_hidden=opening.trailing[None],
            tts_pad_embed=opening.silence[None],
            max_new_tokens=most_frames + 1,
            **_DRAWING,
            suppress_tokens=[code for code in range(vocabulary - _RESERVED, vocabulary) if code != end],
            eos_token_id=end,
            pad_token_id=end,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
    # A frame is known when the talker is given it: the last token, which ends the speech or is cut off, has none.
    frames = [states[-1] for states in output.hidden_states if states[-1] is not None]
    codes = torch.cat(frames) if frames else torch.zeros(0, config.num_code_groups, dtype=torch.long)
    return codes, bool(output.sequences[0, -1] != end)
