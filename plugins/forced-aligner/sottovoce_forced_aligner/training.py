"""Training of the forced aligner: padded batches of clips with their words, and the logits of the words' markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sottovoce import Model, Sample, TrainingOutputs
from sottovoce.architecture import UNLABELED
from sottovoce.errors import SamplesError
from sottovoce.report.number_format import counted
from sottovoce_forced_aligner.inference import first_window, inputs
from sottovoce_forced_aligner.reading import WINDOW, longest_window, prepare

_INPUTS = ("input_ids", "attention_mask", "input_features", "input_features_mask")


def collate(model: Model, samples: Sequence[Sample]) -> Mapping[str, Any]:
    """Return the model's inputs, padded behind their ends, and the bins of the words' times where all samples have any.

    Audio that is longer than a window is cut off, which is logged.

    Returns:
        ``input_ids`` and ``attention_mask`` ``[batch, tokens]``, ``input_features`` ``[batch, bins, frames]``,
        ``input_features_mask`` ``[batch, frames]``, and ``targets`` ``[boundaries]``, the start and the end of each
        word, one sample after another.

    Raises:
        SamplesError: A sample has no audio or no words, or times for another number of words than its text has.
    """
    processor = model.processor
    seconds = min(WINDOW, longest_window(model.native, processor))
    items, targets = [], []
    for sample in samples:
        audio, words = inputs(model, sample)
        items.append(prepare(processor, first_window(sample, audio, seconds), words))
        targets.append(_targets(model, sample, words, seconds))
    # The padding must be neither audio nor a marker; what it is else, nothing sees.
    fillers = {"input_ids": processor.audio_eos_token_id}
    rows = {name: [item[name][0] for item in items] for name in _INPUTS}
    rows["input_features"] = [features.mT for features in rows["input_features"]]
    batch = {
        name: pad_sequence(parts, batch_first=True, padding_value=fillers.get(name, 0)) for name, parts in rows.items()
    }
    batch["input_features"] = batch["input_features"].mT.contiguous()
    known = [target for target in targets if target is not None]
    return batch | ({"targets": torch.cat(known)} if len(known) == len(samples) else {})


def forward(model: Model, batch: Mapping[str, Any], reference: TrainingOutputs | None) -> TrainingOutputs:
    """Run a batch; positions are the markers of the words' starts and ends, and their classes are bins of time.

    ``reference`` is not needed: teacher and student are given the same words.
    """
    native = model.native
    arguments = {name: batch[name] for name in _INPUTS}
    arguments["input_features"] = arguments["input_features"].to(native.dtype)
    outputs = native.model(**arguments, use_cache=False)
    marked = batch["input_ids"] == native.config.timestamp_token_id
    return TrainingOutputs(
        logits=native.score(native.dropout(outputs.last_hidden_state[marked])),
        targets=batch.get("targets"),
        counts=tuple(marked.sum(1).tolist()),
        states={"audio": outputs.audio_hidden_states},
    )


def spectrogram(model: Model, batch: Mapping[str, Any]) -> Tensor:
    """Return the view ``[batch, time, bins]`` of the spectrograms."""
    features: Tensor = batch["input_features"]
    return features.mT


def _targets(model: Model, sample: Sample, words: Sequence[str], seconds: float) -> Tensor | None:
    """Return the bins of the words' starts and ends ``[2 * words]``; ``None`` where a word has no times."""
    pairs = [(word.get("start"), word.get("end")) for word in sample.words]
    if not pairs or any(time is None for pair in pairs for time in pair):
        return None
    if len(sample.words) != len(words):
        raise SamplesError(
            f"sample {sample.key!r}: has times of {counted(len(sample.words), 'word')} ('words'), and its text has "
            f"{len(words)}; give one of each, or no times"
        )
    times = torch.tensor([float(time) for pair in pairs for time in pair if time is not None], dtype=torch.float64)
    bins: Tensor = (times * 1000 / model.processor.timestamp_segment_time).round().long()
    # What was cut off is not heard.
    return bins.clamp(0, int(model.native.config.num_labels) - 1).where(times <= seconds, UNLABELED)
