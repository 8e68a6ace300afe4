"""Training of the thinker: padded batches of conversations with their answers, and the logits of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from sottovoce import Model, Sample, TrainingOutputs
from sottovoce.errors import SamplesError
from sottovoce_omni_moe.conversation import answer_ids, processed
from sottovoce_omni_moe.talker import accepted_layer, places, speaks
from sottovoce_omni_moe.turns import media_mask, users_mask

_OWN = ("input_ids", "attention_mask", "position_ids")
_AUDIO = ("input_features", "feature_attention_mask")


def collate(model: Model, samples: Sequence[Sample]) -> Mapping[str, Any]:
    """Return the thinker's inputs for conversations with their answers, padded behind their ends.

    Returns:
        ``input_ids`` and ``attention_mask`` ``[batch, tokens]``, ``position_ids`` ``[3, batch, tokens]``, the features
        of all media by the processor's names, ``answered`` ``[batch, tokens]``, true where a token of an answer or its
        end follows, ``heard`` ``[batch, tokens]``, true for the users' media, and ``targets`` ``[positions]``, the
        tokens of the answers.

    Raises:
        SamplesError: A sample has no messages or no answer, or its media cannot be read.
    """
    items = [_item(model, sample) for sample in samples]
    # What is padded, nothing sees; it must stand for no media.
    fillers = {"input_ids": model.native.config.im_end_token_id}
    batch = {
        name: pad_sequence([item[name] for item in items], batch_first=True, padding_value=fillers.get(name, 0))
        for name in (*_OWN, "answered", "heard")
    }
    batch["position_ids"] = batch["position_ids"].permute(2, 0, 1)
    batch["targets"] = torch.cat([item["targets"] for item in items])
    for name in sorted({name for item in items for name in item} - set(batch)):
        parts = [item[name] for item in items if name in item]
        longest = max(part.shape[-1] for part in parts)
        if name in _AUDIO:
            parts = [functional.pad(part, (0, longest - part.shape[-1])) for part in parts]
        batch[name] = torch.cat(parts)
    return batch


def forward(model: Model, batch: Mapping[str, Any], reference: TrainingOutputs | None) -> TrainingOutputs:
    """Run the thinker on a batch; positions are the tokens of the answers and their ends. The talker does not run.

    ``reference`` is not needed: teacher and student are given the same answers.
    """
    native = model.native
    arguments = {name: value for name, value in batch.items() if name not in ("answered", "heard", "targets")}
    with _listening(native, batch["heard"]) as heard:
        states = native.thinker.model(**arguments, use_cache=False).last_hidden_state
    answered = batch["answered"]
    # The talker reads them: a student whose answers are right should be spoken as well as before.
    media = heard[0] if heard else states.new_zeros(0, states.shape[-1])
    return TrainingOutputs(
        logits=native.thinker.lm_head(states[answered]),
        targets=batch["targets"],
        counts=tuple(answered.sum(1).tolist()),
        # Some channels are larger than others by far, and all that counts is lost beside them.
        states={"media": functional.layer_norm(media.float(), media.shape[-1:])},
    )


def spectrogram(model: Model, batch: Mapping[str, Any]) -> Tensor:
    """Return the view ``[clips, time, bins]`` of the spectrograms; empty in a batch without audio."""
    features: Tensor = batch.get("input_features", torch.zeros(0, 1, 1))
    return features.mT


def _item(model: Model, sample: Sample) -> dict[str, Tensor]:
    """Return the inputs of one sample, those for tokens without the dimension of the batch."""
    said = answer_ids(model, sample)
    if not said:
        raise SamplesError(
            f"sample {sample.key!r}: has no answer to train on; give it as 'target', or as an assistant's last message"
        )
    batch = processed(model, sample, answered=True)
    ids = batch["input_ids"][0]
    answered = torch.zeros_like(ids, dtype=torch.bool)
    answered[-len(said) - 1 : -1] = True
    config = model.native.config
    rows = {
        "input_ids": ids,
        "attention_mask": batch["attention_mask"][0],
        "position_ids": places(model.native, batch, ids)[:, 0].T.float(),
        "answered": answered,
        "heard": media_mask(config, ids) & users_mask(config, ids),
        "targets": torch.tensor(said),
    }
    return batch | rows


@contextmanager
def _listening(native: Any, heard: Tensor) -> Iterator[list[Tensor]]:
    """Keep the states that the talker is given of the users' media ``[media tokens, width]``, if there is one."""
    states: list[Tensor] = []
    if not speaks(native):
        yield states
        return

    def keep(module: Any, arguments: Any, output: Any) -> None:
        states[:] = [(output[0] if isinstance(output, tuple) else output)[heard]]

    handle = accepted_layer(native).register_forward_hook(keep)
    try:
        yield states
    finally:
        handle.remove()
