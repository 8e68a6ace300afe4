"""The talker is given what transformers gives it, and walks block by block like everything else."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from plugins.omni_moe.conversations import ALL, ask
from plugins.omni_moe.tiny import CODES, GROUPS, in_memory
from sottovoce import Model, Sample
from sottovoce.calibration.blocks import Block, run_blocks
from sottovoce.errors import SamplesError
from sottovoce_omni_moe.conversation import forward, inputs
from sottovoce_omni_moe.talker import listening, open_speech, run_talker

ALONE = {name: kinds for name, kinds in ALL.items() if name != "mixed"}
"""Transformers 5.23 cannot speak about audio and pictures together."""
THINKER = [f"thinker.model.language_model.layers.{number}" for number in range(2)]
TALKER = [f"talker.model.layers.{number}" for number in range(2)]


@pytest.fixture(scope="module")
def model() -> Model:
    return in_memory()


def generated(
    model: Model, batch: dict[str, Tensor], frames: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any, Any]:
    """The tokens that transformers generates, what its talker was given, and what that gave."""
    original, given = model.native.talker.generate, {}

    def generate(**settings: Any) -> Any:
        given.update(settings)
        given["result"] = original(**settings)
        return given["result"]

    monkeypatch.setattr(model.native.talker, "generate", generate)
    torch.manual_seed(0)
    ids, _ = model.native.generate(
        **batch,
        thinker_do_sample=False,
        thinker_max_new_tokens=6,
        talker_max_new_tokens=frames + 1,
        thinker_eos_token_id=model.native.config.im_end_token_id,
    )
    return ids, given, given["result"]


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")
@pytest.mark.parametrize("kinds", ALONE.values(), ids=ALONE)
@torch.inference_mode()
def test_it_is_given_what_transformers_gives_it(
    model: Model, kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = inputs(model, ask(*kinds))
    length = batch["input_ids"].shape[1]
    ids, given, result = generated(model, batch, 9, monkeypatch)
    # The thinker has not read the last token, so the talker is not given it.
    batch["input_ids"], batch["attention_mask"] = ids[:, :-1], torch.ones_like(ids[:, :-1])
    with listening(model.native, ids[0, :length]) as heard:
        model.native.thinker.model(**batch, use_cache=False)
    opening = open_speech(model.native, batch, length, heard)
    torch.testing.assert_close(opening.embeds, given["inputs_embeds"][0])
    torch.testing.assert_close(opening.trailing, given["trailing_text_hidden"][0])
    codes = torch.cat([step[-1] for step in result.hidden_states if step[-1] is not None])
    assert codes.shape == (9, GROUPS)
    found = run_talker(model.native, batch, length, heard, codes)
    states = torch.cat([step[0][-1][0] for step in result.hidden_states])
    torch.testing.assert_close(found, model.native.talker.codec_head(states), atol=1e-4, rtol=1e-4)


def test_without_an_answer_it_opens_all_the_same(model: Model) -> None:
    for answer, positions in ((None, 8), ("", 8), ("a", 9)):
        batch = inputs(model, ask("text", answer=answer), answered=True)
        length = inputs(model, ask("text"))["input_ids"].shape[1]
        opening = open_speech(model.native, batch, length, [])
        # The start, the role, two new lines and the end.
        assert opening.embeds.shape == (positions + len("hm, what is it?") + 5, 32)
        assert opening.places.shape == (3, 1, len(opening.embeds))
    assert torch.isfinite(forward(model, ask("text", answer=None))).all()


def recorded(model: Model) -> tuple[Model, dict[str, list[Tensor]]]:
    """A model that keeps the thinker's and the talker's logits of every sample."""
    found: dict[str, list[Tensor]] = {}

    def run(model: Model, sample: Sample) -> Tensor:
        def keep(module: Any, arguments: Any, output: Tensor) -> None:
            if threading.get_ident() == own:
                found.setdefault(sample.key, []).append(output.clone())

        own = threading.get_ident()
        handle = model.native.talker.codec_head.register_forward_hook(keep)
        try:
            found.setdefault(sample.key, []).append(forward(model, sample))
        finally:
            handle.remove()
        return found[sample.key][-1]

    runner = replace(model.architecture.runner, forward=run)
    return replace(model, architecture=replace(model.architecture, runner=runner)), found


def test_samples_that_wait_for_one_another_do_not_disturb_each_other(model: Model) -> None:
    codes = [[number, (number * 7) % CODES, 3] for number in range(11)]
    samples = [ask(*ALL["mixed"]), ask("video", codes=codes), ask("text"), ask("audio"), ask("image", answer=None)]
    alone, expected = recorded(model)
    for sample in samples:
        with torch.inference_mode():
            alone.architecture.runner.forward(alone, sample)
    walked, found = recorded(model)
    visits: list[tuple[str, int]] = []

    def visit(block: Block) -> None:
        # As calibration does: the block runs on the same inputs again and again.
        first, second = ([output.clone() for output in block.run()] for _ in range(2))
        assert all(one.equal(other) for one, other in zip(first, second, strict=True))
        visits.append((block.name, len(block.sample_threads)))

    assert run_blocks(walked, samples, [*THINKER, *TALKER], visit).unreached == ()
    assert visits == [(name, len(samples)) for name in (*THINKER, *TALKER)]
    assert found.keys() == expected.keys()
    for key, (speech, text) in expected.items():
        torch.testing.assert_close(found[key][0], speech)
        torch.testing.assert_close(found[key][1], text)


@pytest.mark.parametrize("codes", [[[1, 2]], [[1, 2, 3], [1]], [["a", 1, 2]], [[1, 2, CODES]], [[1, 2, -1]], [1, 2, 3]])
def test_codes_that_are_none_are_refused(model: Model, codes: Any) -> None:
    with pytest.raises(SamplesError, match=r"sample 'text': 'codes' must be frames of 3 numbers each, from 0 to 31"):
        forward(model, ask("text", codes=codes))
