"""Running one conversation through the model: messages in, the next text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sottovoce import Model, Prediction, Sample
from sottovoce.errors import SamplesError
from sottovoce_omni_moe.codes import codes_in
from sottovoce_omni_moe.media import read_media
from sottovoce_omni_moe.talker import listening, run_talker, speaks

NEW_TOKENS = 256
"""Most tokens of an answer, where neither the model's settings nor the sample say otherwise."""
TOKENS_PER_SECOND = 10
"""Tokens that an answer may have for each second of audio: fast speech has about 8 syllables, and fewer tokens."""


def inputs(model: Model, sample: Sample, *, answered: bool = False) -> dict[str, Tensor]:
    """Return the processor's inputs for the sample's messages, up to where the assistant begins to answer.

    Args:
        model: The model with its processor.
        sample: A conversation. An assistant's message at its end is its answer and no part of the question.
        answered: If true, the answer follows, with the token that ends it.

    Returns:
        The inputs of the thinker: ``input_ids`` and ``attention_mask`` ``[1, tokens]``, and the features of the media.

    Raises:
        SamplesError: There are no messages, or their media cannot be read; names the sample.
    """
    device = model.native.thinker.get_input_embeddings().weight.device
    return {name: tensor.to(device) for name, tensor in processed(model, sample, answered=answered).items()}


def processed(model: Model, sample: Sample, *, answered: bool = False) -> dict[str, Tensor]:
    """Return what :func:`inputs` does, on the CPU."""
    context = f"sample {sample.key!r}"
    if not (messages := _question(sample)):
        raise SamplesError(f"{context}: has no 'messages' to answer")
    batch = _processed(model.processor, messages, context)
    said = torch.tensor([answer_ids(model, sample) if answered else []], dtype=torch.long)
    batch["input_ids"] = torch.cat((batch["input_ids"], said), dim=1)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    return batch


def answer_of(sample: Sample) -> str | None:
    """Return the text that the assistant should say: its message at the end, otherwise the sample's text."""
    if not _is_answered(sample):
        return sample.text
    content = sample.messages[-1]["content"]
    return content if isinstance(content, str) else "".join(item.get("text", "") for item in content)


def answer_ids(model: Model, sample: Sample) -> list[int]:
    """Return the tokens of the answer and the token that ends it; none for a sample without an answer."""
    if (text := answer_of(sample)) is None:
        return []
    return [*model.processor.tokenizer(text, add_special_tokens=False).input_ids, model.native.config.im_end_token_id]


def forward(model: Model, sample: Sample) -> Tensor:
    """Return the thinker's logits ``[tokens, vocabulary]`` for the conversation and its answer, where it has one.

    The talker runs too, where the model has one, so that its layers can be calibrated: on the user's part and the
    text of the answer, and on the frames of speech that the assistant's message brings as ``codes``.

    Raises:
        SamplesError: As :func:`inputs`; or the codes are not the talker's.
    """
    native = model.native
    batch = inputs(model, sample, answered=True)
    codes, length = codes_in(sample, native), batch["input_ids"].shape[1] - len(answer_ids(model, sample))
    with listening(native, batch["input_ids"][0, :length]) as heard:
        states = native.thinker.model(**batch, use_cache=False).last_hidden_state
    if speaks(native):
        run_talker(native, batch, length, heard, codes)
    # Last of all: calibration has many samples wait in the talker, and logits are large.
    logits: Tensor = native.thinker.lm_head(states)
    return logits[0].float()


def answer_logits(model: Model, sample: Sample) -> Tensor | None:
    """Return the thinker's logits at each token of the answer and at its end, ``[positions, vocabulary]``.

    The right answer is its input, whatever it would have said; ``None`` for a sample without an answer.
    """
    if not (said := answer_ids(model, sample)):
        return None
    thinker = model.native.thinker
    with torch.inference_mode():
        states = thinker.model(**inputs(model, sample, answered=True), use_cache=False).last_hidden_state
        logits: Tensor = thinker.lm_head(states[0, -len(said) - 1 : -1])
    return logits.float()


def predict(model: Model, sample: Sample) -> Prediction:
    """Return the thinker's greedy answer."""
    if sample.too_short:
        return Prediction()
    batch = inputs(model, sample)
    end = model.native.config.im_end_token_id
    with torch.inference_mode():
        sequences = model.native.thinker.generate(
            **batch, max_new_tokens=longest_answer(model, sample), do_sample=False, eos_token_id=end, pad_token_id=end
        )
    answer = sequences[0, batch["input_ids"].shape[1] :].tolist()
    text = model.processor.tokenizer.decode(answer, skip_special_tokens=True)
    return Prediction(text=text, tokens=tuple(map(str, answer)), cut_off=not answer or answer[-1] != end)


def longest_answer(model: Model, sample: Sample) -> int:
    """Return the most tokens of an answer: the sample's, otherwise by the model's settings.

    Without either, it is 256, or as many as a transcript of the sample's audio may have.
    """
    if sample.max_new_tokens is not None:
        return sample.max_new_tokens
    limit = getattr(model.native.generation_config, "max_new_tokens", None)
    return int(limit) if limit else max(NEW_TOKENS, math.ceil(TOKENS_PER_SECOND * sample.seconds))


def probe(model: Model) -> Sample:
    """Return one short question with its answer."""
    content = [{"type": "text", "text": "What does this say?"}]
    return Sample(key="probe", messages=[{"role": "user", "content": content}], text="Nothing much.")


def _is_answered(sample: Sample) -> bool:
    return bool(sample.messages) and sample.messages[-1]["role"] == "assistant"


def _question(sample: Sample) -> Sequence[Mapping[str, Any]]:
    return sample.messages[:-1] if _is_answered(sample) else sample.messages


def _processed(processor: Any, messages: Sequence[Mapping[str, Any]], context: str) -> dict[str, Tensor]:
    media = read_media(messages, context)
    bare = [{"role": message["role"], "content": _bare(message["content"])} for message in messages]
    prompt = processor.apply_chat_template(bare, tokenize=False, add_generation_prompt=True)
    settings: dict[str, Any] = {}
    if any(isinstance(video, str) for video in media.get("videos", ())):
        # Files are sampled at one frame a second; of a list, all frames are taken.
        settings["videos_kwargs"] = {"do_sample_frames": True, "fps": 1.0}
    try:
        batch = processor(text=[prompt], return_tensors="pt", **media, **settings)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        raise SamplesError(f"{context}: the processor refuses it: {' '.join(str(error).split())[:200]}") from error
    return {name: torch.as_tensor(value) for name, value in batch.items()}


def _bare(content: Any) -> Any:
    """Return a message with media only named: the template places them, the processor is given what they hold."""
    if isinstance(content, str):
        return content
    return [item if item["type"] == "text" else {"type": item["type"]} for item in content]
