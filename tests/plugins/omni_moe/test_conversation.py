"""What is asked of the thinker, and what it answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from plugins.omni_moe.conversations import ALL, ANSWER, ask, noise, picture
from plugins.omni_moe.tiny import LONGEST, in_memory
from sottovoce import Model, Sample, read_samples
from sottovoce.errors import SamplesError
from sottovoce_omni_moe.conversation import answer_logits, forward, inputs, longest_answer, predict, probe


@pytest.fixture(scope="module")
def model() -> Model:
    return in_memory()


@pytest.mark.parametrize("kinds", ALL.values(), ids=ALL)
def test_forward_gives_the_thinkers_logits(model: Model, kinds: tuple[str, ...]) -> None:
    sample = ask(*kinds)
    batch = inputs(model, sample, answered=True)
    with torch.inference_mode():
        expected = model.native.thinker(**batch).logits[0]
        found = forward(model, sample)
    assert found.shape == (batch["input_ids"].shape[1], len(model.processor.tokenizer))
    torch.testing.assert_close(found, expected)


def test_the_media_make_a_difference(model: Model) -> None:
    for kind in ("audio", "image", "video"):
        sample = ask(kind)
        item = sample.messages[1]["content"][0]
        other = noise(seed=5) if kind == "audio" else picture(5) if kind == "image" else [picture(5)] * 3
        changed = [
            sample.messages[0],
            {"role": "user", "content": [{**item, kind: other}, sample.messages[1]["content"][1]]},
        ]
        with torch.inference_mode():
            first, second = forward(model, sample), forward(model, replace(sample, messages=changed))
        assert first.shape == second.shape
        assert (first[-1] - second[-1]).abs().max() > 1e-3


def test_the_answer_follows_the_prompt(model: Model) -> None:
    asked, answered = (inputs(model, ask("audio"), answered=answered) for answered in (False, True))
    length = asked["input_ids"].shape[1]
    assert answered["input_ids"][:, :length].equal(asked["input_ids"])
    decode = model.processor.tokenizer.decode
    assert decode(asked["input_ids"][0]).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert decode(answered["input_ids"][0, length:]) == f"{ANSWER}<|im_end|>"
    assert answered["attention_mask"].shape == answered["input_ids"].shape


def test_an_assistants_message_at_the_end_is_the_answer(model: Model) -> None:
    as_text, as_message = ask("image"), ask("image", codes=[])
    content = [{"type": "text", "text": ANSWER}]
    as_items = replace(as_message, messages=[*as_message.messages[:-1], {"role": "assistant", "content": content}])
    for answered in (True, False):
        expected = inputs(model, as_text, answered=answered)["input_ids"]
        for sample in (as_message, as_items):
            assert inputs(model, sample, answered=answered)["input_ids"].equal(expected)


def test_predict_says_what_transformers_says(model: Model) -> None:
    for kind in ("text", "audio", "image"):
        batch = inputs(model, ask(kind))
        ids = model.native.generate(
            **batch,
            return_audio=False,
            thinker_do_sample=False,
            thinker_max_new_tokens=LONGEST,
            thinker_eos_token_id=model.native.config.im_end_token_id,
        )
        found = predict(model, ask(kind))
        assert found.tokens == tuple(map(str, ids[0, batch["input_ids"].shape[1] :].tolist()))
        assert found.text == model.processor.tokenizer.decode(list(map(int, found.tokens)), skip_special_tokens=True)


def test_the_answers_logits_are_those_that_expect_it(model: Model) -> None:
    sample = ask("audio")
    found, whole = answer_logits(model, sample), forward(model, sample)
    assert found is not None
    torch.testing.assert_close(found, whole[-len(found) - 1 : -1])
    assert len(found) == len(ANSWER) + 1
    assert answer_logits(model, ask("audio", answer=None)) is None


def test_a_manifest_with_media(model: Model, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.stack([noise(), noise(seed=1)], axis=1), 8000)
    for number in range(3):
        Image.fromarray(picture(number)).convert("RGBA").save(tmp_path / f"{number}.png")
    content = [
        {"type": "audio", "audio": "a.flac"},
        {"type": "image", "image": "0.png"},
        {"type": "video", "video": ["0.png", "1.png", "2.png"]},
        {"type": "text", "text": "what?"},
    ]
    line = {"key": "all", "messages": [{"role": "user", "content": content}], "target": "noise"}
    (tmp_path / "data.jsonl").write_text(json.dumps(line))
    (sample,) = read_samples(tmp_path / "data.jsonl")
    batch = inputs(model, sample)
    # Two seconds, of which the file has half as many samples.
    assert int(batch["feature_attention_mask"].sum()) == 200
    assert torch.isfinite(forward(model, sample)).all()


def test_a_model_without_a_talker(model: Model) -> None:
    silent = in_memory(talker=False)
    assert not hasattr(silent.native, "talker")
    sample = ask("audio", codes=[[0] * 3])
    assert forward(silent, sample).shape == forward(model, sample).shape


def test_the_probe_has_an_answer(model: Model) -> None:
    assert answer_logits(model, probe(model)) is not None


def broken(kind: str, value: object) -> Sample:
    return Sample(key="odd", messages=[{"role": "user", "content": [{"type": kind, kind: value}]}])


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        (Sample(key="odd", text="x"), "has no 'messages' to answer"),
        (Sample(key="odd", messages=[{"role": "assistant", "content": "x"}]), "has no 'messages' to answer"),
        (broken("image", Path(__file__)), "no picture that can be read"),
        (broken("audio", Path(__file__)), "cannot be read as audio"),
        (broken("audio", noise(0.01)), "shorter than one frame"),
        (broken("audio", noise() * np.nan), "are NaN or infinite"),
        (broken("video", [picture(), picture(width=40)]), "of one size, not 28x20, 40x20"),
        (broken("video", Path(__file__)), "needs torchvision"),
    ],
)
def test_what_cannot_be_asked_is_said(model: Model, sample: Sample, problem: str) -> None:
    with pytest.raises(SamplesError) as caught:
        forward(model, sample)
    assert "sample 'odd'" in str(caught.value)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_longest_answer_follows_the_sample_the_settings_and_the_audio(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = model.native.generation_config
    monkeypatch.setattr(settings, "max_new_tokens", None)
    content = [{"type": "audio", "audio": np.zeros(16000 * 60, dtype=np.float32)}]
    long = Sample(key="long", messages=[{"role": "user", "content": content}])
    assert longest_answer(model, long) == 600
    assert longest_answer(model, ask("text")) == 256
    monkeypatch.setattr(settings, "max_new_tokens", 40)
    assert longest_answer(model, long) == 40
    assert longest_answer(model, replace(long, max_new_tokens=7)) == 7
    prediction = predict(model, replace(ask("text"), max_new_tokens=3))
    assert len(prediction.tokens) <= 3
    assert prediction.cut_off == (prediction.tokens[-1] != str(model.native.config.im_end_token_id))
