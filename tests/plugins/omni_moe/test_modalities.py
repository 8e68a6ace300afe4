"""Every token's kind, in the thinker and in the talker."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from plugins.omni_moe.conversations import ALL, ask
from plugins.omni_moe.tiny import in_memory
from sottovoce import Model, Sample
from sottovoce_omni_moe.conversation import forward, inputs
from sottovoce_omni_moe.modalities import modalities

LAYERS = ("thinker.model.language_model.layers.1", "talker.model.layers.0")
CASES = {name: ask(*kinds) for name, kinds in ALL.items()} | {
    "codes": ask("audio", codes=[[1, 2, 3]] * 5),
    "unanswered": ask("image", answer=None),
}


@pytest.fixture(scope="module")
def model() -> Model:
    return in_memory()


@pytest.mark.parametrize("sample", CASES.values(), ids=CASES)
@pytest.mark.parametrize("block", LAYERS)
def test_there_are_as_many_as_the_block_is_given(model: Model, sample: Sample, block: str) -> None:
    seen: list[int] = []

    def count(module: Any, arguments: Any) -> None:
        seen.append(arguments[0].shape[1])

    handle = model.module.get_submodule(block).register_forward_pre_hook(count)
    with torch.inference_mode():
        forward(model, sample)
    handle.remove()
    assert seen == [len(modalities(model, sample, block))]


def test_media_are_where_their_tokens_are(model: Model) -> None:
    sample = ask("image", "audio", "video")
    found = modalities(model, sample, LAYERS[0])
    tokens = model.processor.tokenizer.convert_ids_to_tokens(
        inputs(model, sample, answered=True)["input_ids"][0].tolist()
    )
    names = {"<|image_pad|>": "image", "<|audio_pad|>": "audio", "<|video_pad|>": "video"}
    assert found == tuple(names.get(token, "text") for token in tokens)
    assert Counter(found)["audio"] == 13
    assert set(found) == {"text", "image", "audio", "video"}
    assert set(modalities(model, sample, LAYERS[1])) == {"speech"}


def test_without_a_talker_there_is_no_speech() -> None:
    assert modalities(in_memory(talker=False), ask("text"), LAYERS[1]) == ()
