"""Training of the thinker: a batch is its conversations, what is trained has gradients, a pruned student improves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from plugins.omni_moe.conversations import ALL, ask
from plugins.omni_moe.tiny import in_memory
from sottovoce import Model, Sample, Samples, TrainingOutputs, read_samples
from sottovoce.architecture import Training
from sottovoce.errors import SamplesError
from sottovoce.runtime.experts import unfuse_
from sottovoce.training.step import Distill
from sottovoce.training.student import prepared_for_training
from sottovoce_omni_moe.conversation import answer_ids, answer_logits

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-omni"
DATA = ROOT / "examples" / "data" / "omni-tasks"
MIXED = [
    ask("audio", answer="a dog barks"),
    ask("text"),
    ask("image", "audio"),
    ask("video", answer="it moves"),
    ask("image", codes=None),
]


@pytest.fixture(scope="module", params=[True, False], ids=["with a talker", "without"])
def model(request: pytest.FixtureRequest) -> Model:
    return in_memory(talker=request.param)


def training(model: Model) -> Training:
    assert model.architecture.training is not None
    return model.architecture.training


def outputs(model: Model, samples: Sequence[Sample]) -> TrainingOutputs:
    with torch.no_grad():
        return training(model).forward(model, training(model).collate(model, samples), None)


def test_a_batch_gives_each_conversation_what_it_gives_alone(model: Model) -> None:
    together = outputs(model, MIXED)
    alone = [answer_logits(model, sample) for sample in MIXED]
    expected = torch.cat([logits for logits in alone if logits is not None]).clone()
    torch.testing.assert_close(together.logits, expected, atol=1e-4, rtol=1e-4)
    assert together.counts == tuple(len(logits) for logits in alone if logits is not None)
    heard = torch.cat([outputs(model, [sample]).states["media"] for sample in MIXED])
    torch.testing.assert_close(together.states["media"], heard, atol=1e-4, rtol=1e-4)
    assert bool(len(heard)) == model.native.has_talker


def test_targets_are_the_answers_with_their_ends(model: Model) -> None:
    found = outputs(model, MIXED)
    assert found.targets is not None
    assert found.targets.tolist() == [token for sample in MIXED for token in answer_ids(model, sample)]


@pytest.mark.parametrize("kinds", ALL.values(), ids=ALL)
def test_a_conversation_without_an_answer_is_an_error_that_names_it(model: Model, kinds: tuple[str, ...]) -> None:
    silent = replace(ask(*kinds, answer=None), key="silent")
    with pytest.raises(SamplesError, match="sample 'silent': has no answer to train on"):
        training(model).collate(model, [MIXED[0], silent])


def test_gradients_are_where_parameters_are_trained_and_nowhere_else() -> None:
    model = in_memory()
    # As models are after loading: linear layers, a set for each expert.
    unfuse_(model.module, model.architecture.experts)
    with prepared_for_training(model, training(model), Distill()) as names:
        batch = training(model).collate(model, MIXED)
        training(model).forward(model, batch, None).logits.square().mean().backward()  # type: ignore[no-untyped-call]
        found = {name: parameter.grad for name, parameter in model.module.named_parameters()}
    frozen = ("talker.", "code2wav.", "thinker.model.audio_tower.", "thinker.model.visual.")
    for name, gradient in found.items():
        is_frozen = name.startswith(frozen) or name.endswith(("mlp.gate.weight", "embed_tokens.weight"))
        assert (gradient is None) == is_frozen, name
        assert (name in names) == (not is_frozen), name
        assert gradient is None or bool(gradient.abs().max() > 0), name
    assert sum(".mlp.experts." in name for name in names) == 2 * 4 * 3


def test_gradients_are_the_same_with_activations_computed_again() -> None:
    found = []
    for again in (False, True):
        model = in_memory()
        with prepared_for_training(model, training(model), Distill(gradient_checkpointing=again)) as names:
            batch = training(model).collate(model, MIXED)
            training(model).forward(model, batch, None).logits.square().mean().backward()  # type: ignore[no-untyped-call]
            found.append({name: model.module.get_parameter(name).grad for name in names})
    torch.testing.assert_close(*found)


def test_spectrogram_is_a_view_of_time_and_bins() -> None:
    model = in_memory()
    spectrogram: Any = training(model).spectrogram
    batch = training(model).collate(model, MIXED)
    spectrogram(model, batch)[1, 5:7, 3] = 9.0
    assert (batch["input_features"] == 9.0).nonzero().tolist() == [[1, 3, 5], [1, 3, 6]]
    assert len(spectrogram(model, training(model).collate(model, MIXED[1:2]))) == 0


def test_a_student_with_fewer_experts_comes_closer_and_is_saved_exactly(tmp_path: Path) -> None:
    model = sottovoce.load(TRAINED)
    distill = {"step": "distill", "steps": 8, "batch": 16, "evaluations": 2, "held_out": 0.2, "must_improve": True}
    recipe = {"steps": [{"step": "prune_experts", "keep": 0.25}, distill]}
    sottovoce.compress(model, recipe, Samples(read_samples(DATA / "calibration.jsonl").items))
    assert model.report is not None
    details = model.report.steps[1].details
    assert details["score_after"] < details["score_before"]
    # It compares what it writes with what it reads again, and refuses a difference.
    sottovoce.save(model, tmp_path / "small")
    loaded, sample = sottovoce.load(tmp_path / "small"), read_samples(DATA / "test.jsonl")[0]
    first, second = (answer_logits(one, sample) for one in (model, loaded))
    assert first is not None
    assert second is not None
    assert first.equal(second)
