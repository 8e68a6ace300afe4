"""The model speaks as transformers makes it speak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from plugins.omni_moe.conversations import ALL, ask
from plugins.omni_moe.tiny import CODES, GROUPS, LONGEST, in_memory
from sottovoce import Model
from sottovoce.errors import UsageError
from sottovoce_omni_moe.conversation import forward, inputs, predict
from sottovoce_omni_moe.speech import codes_of, speak


@pytest.fixture(scope="module")
def model() -> Model:
    return in_memory()


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")
@pytest.mark.parametrize("kind", ["text", "audio", "image", "video"])
def test_it_says_what_transformers_says(model: Model, kind: str) -> None:
    found = speak(model, ask(kind), most_frames=5, seed=3)
    torch.manual_seed(3)
    _, wave = model.native.generate(
        **inputs(model, ask(kind)),
        thinker_do_sample=False,
        thinker_max_new_tokens=LONGEST,
        talker_max_new_tokens=6,
        thinker_eos_token_id=model.native.config.im_end_token_id,
    )
    assert found.runaway
    np.testing.assert_array_equal(found.waveform, wave.flatten().numpy())
    assert found.text == predict(model, ask(kind)).text
    assert found.seconds == len(found.waveform) / 24000


def test_about_audio_and_pictures_together(model: Model) -> None:
    assert len(speak(model, ask(*ALL["mixed"]), most_frames=2).frames) == 2


def test_the_draws_are_the_seeds(model: Model) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (codes_of(model, ask("text"), most_frames=5, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.random.get_rng_state().equal(state)
    assert all(len(frame) == GROUPS and max(frame) < CODES for frame in first)


def test_speech_that_ends_is_no_runaway(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    talker, bias = model.native.talker, torch.zeros(model.native.config.talker_config.text_config.vocab_size)
    bias[model.native.config.talker_config.codec_eos_token_id] = 1e4
    handle = talker.codec_head.register_forward_hook(lambda module, given, logits: logits + bias)
    try:
        found = speak(model, ask("text"), most_frames=5)
    finally:
        handle.remove()
    assert (found.runaway, found.frames, found.seconds) == (False, (), 0.0)


def test_an_empty_answer_is_not_said(model: Model) -> None:
    bias = torch.zeros(len(model.processor.tokenizer))
    bias[model.native.config.im_end_token_id] = 1e4
    handle = model.native.thinker.lm_head.register_forward_hook(lambda module, given, logits: logits + bias)
    try:
        found = speak(model, ask("text"))
    finally:
        handle.remove()
    assert (found.text, found.frames, found.runaway, len(found.waveform)) == ("", (), False, 0)
    assert not found.cut_off


def test_own_speech_can_be_calibrated_on(model: Model) -> None:
    codes = codes_of(model, ask("audio"), most_frames=4)
    assert torch.isfinite(forward(model, ask("audio", codes=codes))).all()


def test_a_model_without_a_talker_cannot_speak() -> None:
    with pytest.raises(UsageError, match="has no talker"):
        speak(in_memory(talker=False), ask("text"))


def test_a_text_that_ends_at_the_limit_of_tokens_says_so(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    assert predict(model, replace(ask("text"), max_new_tokens=3)).cut_off
    assert speak(model, replace(ask("text"), max_new_tokens=3), most_frames=2).cut_off
    codes_of(model, ask("text"), most_frames=2)
    assert "its speech was cut off; it is better left out of a manifest" in caplog.text
