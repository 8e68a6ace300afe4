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
    results = model.native.inference(sample.text, model=model.module, kwargs=model.processor, disable_pbar=True)
    text = results[0].get("text") if results else None
    return Prediction(text=text, tokens=tuple(text or ""))


def probe(model: Model) -> Sample:
    """Return a sentence without marks."""
    return Sample(key="probe", text="今天天气很好我们出去走走吧你觉得怎么样")
