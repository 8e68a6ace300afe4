"""Training of a Paraformer: batches of utterances, and a forward pass whose tokens are the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from funasr.models.transformer.utils.nets_utils import make_pad_mask
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sottovoce import Model, Sample, TrainingOutputs
from sottovoce.architecture import UNLABELED
from sottovoce_paraformer.recognition import SURPLUS, decode, features

_END = 2
"""FunASR's number of the token that ends a text."""


def collate(model: Model, samples: Sequence[Sample]) -> Mapping[str, Any]:
    """Return filter banks ``[batch, frames, features]`` and, where all samples have texts, their tokens.

    Raises:
        SamplesError: A sample has no audio, or too little.
    """
    pairs = [features(model, sample) for sample in samples]
    batch: dict[str, Any] = {
        "speech": pad_sequence([speech[0].cpu() for speech, _ in pairs], batch_first=True),
        "speech_lengths": torch.cat([length.cpu() for _, length in pairs]).long(),
    }
    texts = [sample.text for sample in samples]
    if all(text is not None for text in texts):
        encode = model.processor["tokenizer"].encode
        module: Any = model.module
        bias = int(module.predictor_bias)
        tokens = [torch.tensor([*encode(text), *[_END] * bias]) for text in texts]
        batch["tokens"] = pad_sequence(tokens, batch_first=True, padding_value=UNLABELED)
        batch["counts"] = torch.tensor([len(item) for item in tokens])
    return batch


def forward(model: Model, batch: Mapping[str, Any], reference: TrainingOutputs | None) -> TrainingOutputs:
    """Run a batch, with as many tokens as its texts have, or else as the teacher counts.

    Both models' weights of the frames are scaled to the same number of tokens, so their logits are compared token by
    token. The decoder is given what the predictor gathers, as in recognition; the sampler of FunASR's own training,
    which mixes in the right characters at random, is off.
    """
    module: Any = model.module
    encoded, lengths = module.encode(batch["speech"], batch["speech_lengths"])
    mask = (~make_pad_mask(lengths, maxlen=encoded.size(1))[:, None, :]).to(encoded.device)
    # The predictor looks at neighbours: past the end of an utterance there must be nothing, as if it were alone.
    encoded = encoded * mask.transpose(1, 2)
    counts = _counts(module, batch, encoded, lengths, reference)
    summed, alphas, acoustic = _predict(module, encoded, mask, counts)
    scores = decode(module, encoded, lengths, acoustic, counts)
    is_token = torch.arange(scores.size(1), device=scores.device) < counts[:, None]
    is_frame = mask[:, 0].bool()
    targets = batch.get("tokens")
    return TrainingOutputs(
        logits=scores[is_token],
        targets=None if targets is None else targets[:, : scores.size(1)][is_token],
        counts=tuple(counts.tolist()),
        states={
            "encoder": encoded[is_frame],
            "alphas": alphas[:, : encoded.size(1)][is_frame],
            "quantity": summed / counts,
        },
        losses={"quantity": (summed - counts).abs() / counts},
    )


def spectrogram(model: Model, batch: Mapping[str, Any]) -> Tensor:
    """Return the view ``[batch, time, frames of one step, bins]`` of the stacked filter banks."""
    stacked = int(getattr(model.processor["frontend"], "lfr_m", 1) or 1)
    speech: Tensor = batch["speech"]
    return speech.view(*speech.shape[:-1], stacked, -1)


def _counts(
    module: Any, batch: Mapping[str, Any], encoded: Tensor, lengths: Tensor, reference: TrainingOutputs | None
) -> Tensor:
    """Return the number of tokens of each utterance ``[batch]``, at least one."""
    if reference is not None:
        return torch.tensor(reference.counts, device=encoded.device)
    if "counts" in batch:
        counts: Tensor = batch["counts"]
        return counts
    summed: Tensor = module.calc_predictor(encoded, lengths)[1]
    return summed.round().long().clamp_min(1)


def _predict(module: Any, encoded: Tensor, mask: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of the frames' weights, the weights before they are scaled, and what is gathered for tokens."""
    total = counts + SURPLUS
    acoustic, summed, alphas = module.predictor(
        encoded, None, mask, ignore_id=module.ignore_id, target_label_length=total
    )[:3]
    longest = int(counts.max())
    if acoustic.size(1) < longest:
        acoustic = torch.nn.functional.pad(acoustic, (0, 0, 0, longest - acoustic.size(1)))
    return summed, alphas * (summed / total)[:, None], acoustic[:, :longest]
