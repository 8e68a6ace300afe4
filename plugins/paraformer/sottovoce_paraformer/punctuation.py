"""Running one text through the CT-Transformer that restores punctuation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sottovoce import Model, Prediction, Sample


def forward(model: Model, sample: Sample) -> Tensor:
    """Return logits ``[tokens, marks]``."""
    module: Any = model.module
    ids = model.processor["tokenizer"].encode(list(sample.text or ""))
    text = torch.tensor([ids], device=model.processor["device"])
    logits: Tensor = module.punc_forward(text, torch.tensor([len(ids)]))[0]
    return logits[0].float()


def predict(model: Model, sample: Sample) -> Prediction:
    """Return the text with its marks."""
    text = punctuate(model, sample.text or "")
    return Prediction(text=text, tokens=tuple(text or ""))


def punctuate(model: Model, text: str) -> str:
    """Return a text with its marks."""
    # FunASR fetches a text that begins like an address and opens one that is a file's name; behind a space, it is text.
    results = model.native.inference([f" {text}"], model=model.module, kwargs=dict(model.processor), disable_pbar=True)
    return (results[0].get("text") if results else None) or ""


def probe(model: Model) -> Sample:
    """Return a sentence without marks."""
    return Sample(key="probe", text="今天天气很好我们出去走走吧你觉得怎么样")
