"""Running one conversation through the thinker: messages in, the next text out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sottovoce import Model, Prediction, Sample

NEW_TOKENS = 256


def inputs(model: Model, sample: Sample) -> Any:
    """The processor's inputs for the sample's messages."""
    batch = model.processor.apply_chat_template(
        list(sample.messages), tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    return batch.to(model.native.device)


def forward(model: Model, sample: Sample) -> Tensor:
    """The thinker's logits ``[tokens, vocabulary]``."""
    logits: Tensor = model.native.thinker(**inputs(model, sample)).logits
    return logits[0].float()


def predict(model: Model, sample: Sample) -> Prediction:
    """The thinker's answer, greedy."""
    batch = inputs(model, sample)
    with torch.inference_mode():
        tokens = model.native.thinker.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False)
    answer = tokens[0, batch["input_ids"].shape[1] :].tolist()
    text = model.processor.decode(answer, skip_special_tokens=True)
    return Prediction(text=text, tokens=tuple(map(str, answer)))


def probe(model: Model) -> Sample:
    """One short question."""
    content = [{"type": "text", "text": "What does this say?"}]
    return Sample(key="probe", messages=[{"role": "user", "content": content}])
