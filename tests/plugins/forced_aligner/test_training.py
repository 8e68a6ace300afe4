"""Training of the aligner: a batch is its clips, what is trained has gradients, and a pruned student comes closer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce import Model, Sample, Samples, TrainingOutputs, read_samples
from sottovoce.architecture import UNLABELED, Training
from sottovoce.errors import SamplesError
from sottovoce.training.step import Distill
from sottovoce.training.student import prepared_for_training
from sottovoce_forced_aligner import inference
from sottovoce_forced_aligner import training as training_functions

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-aligner"
DATA = ROOT / "examples" / "data" / "mandarin-commands"


@pytest.fixture(scope="module")
def trained() -> Model:
    return sottovoce.load(TRAINED)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Clips of several lengths, with the times of their words."""
    return list(read_samples(DATA / "dev.jsonl")[:5])


def training(model: Model) -> Training:
    assert model.architecture.training is not None
    return model.architecture.training


def outputs(model: Model, samples: Sequence[Sample]) -> TrainingOutputs:
    with torch.no_grad():
        return training(model).forward(model, training(model).collate(model, samples), None)


def test_a_batch_gives_each_clip_what_it_gives_alone(trained: Model, samples: list[Sample]) -> None:
    together = outputs(trained, samples)
    alone = [outputs(trained, [sample]) for sample in samples]
    assert len({sample.seconds for sample in samples}) == len(samples)
    assert together.counts == tuple(2 * len(sample.words) for sample in samples)
    torch.testing.assert_close(together.logits, torch.cat([one.logits for one in alone]), atol=1e-4, rtol=1e-4)
    heard = torch.cat([one.states["audio"] for one in alone])
    torch.testing.assert_close(together.states["audio"], heard, atol=1e-4, rtol=1e-4)


def test_logits_are_those_of_the_markers_in_inference(trained: Model, samples: list[Sample]) -> None:
    logits = trained.architecture.runner.forward(trained, samples[0])
    ids = training(trained).collate(trained, samples[:1])["input_ids"][0]
    marked = logits[ids == trained.native.config.timestamp_token_id]
    torch.testing.assert_close(outputs(trained, samples[:1]).logits, marked, atol=1e-4, rtol=1e-4)


def test_targets_are_the_nearest_bins_of_the_words_times(trained: Model, samples: list[Sample]) -> None:
    found = outputs(trained, samples)
    times = [float(word[side]) for sample in samples for word in sample.words for side in ("start", "end")]
    assert found.targets is not None
    assert found.targets.tolist() == [round(time / 0.08) for time in times]


def test_one_clip_without_times_leaves_the_batch_without_targets(trained: Model, samples: list[Sample]) -> None:
    untimed = tuple({"text": word["text"]} for word in samples[0].words)
    for words in ((), untimed):
        assert outputs(trained, [replace(samples[0], words=words), samples[1]]).targets is None


def test_times_of_another_number_of_words_are_an_error_that_names_the_sample(
    trained: Model, samples: list[Sample]
) -> None:
    short = replace(samples[0], words=samples[0].words[1:])
    with pytest.raises(SamplesError, match=rf"{samples[0].key}.* has times of {len(short.words)} words"):
        training(trained).collate(trained, [short, samples[1]])


def test_audio_longer_than_the_bins_is_cut_and_what_is_not_heard_has_no_label(trained: Model) -> None:
    words = ({"text": "打", "start": 1.0, "end": 1.5}, {"text": "开", "start": 19.0, "end": 21.0})
    audio = 0.1 * np.random.default_rng(0).standard_normal(30 * 16000).astype(np.float32)
    batch = training(trained).collate(trained, [Sample(key="long", audio=audio, text="打开", words=words)])
    assert batch["input_features_mask"].sum() == 2048
    assert batch["targets"].tolist() == [12, 19, 238, UNLABELED]


def test_gradients_are_where_parameters_are_trained_and_nowhere_else(trained: Model, samples: list[Sample]) -> None:
    model = sottovoce.load(TRAINED)
    step = Distill()
    with prepared_for_training(model, training(model), step) as names:
        batch = training(model).collate(model, samples[:2])
        training(model).forward(model, batch, None).logits.square().mean().backward()  # type: ignore[no-untyped-call]
        found = {name: parameter.grad for name, parameter in model.module.named_parameters()}
    frozen = set(found) - set(names)
    assert frozen == {"model.language_model.embed_tokens.weight"}
    assert all(found[name] is None for name in frozen)
    # The bias of keys moves all scores of a query alike.
    assert [name for name in names if found[name] is None] == []
    assert all(bool(found[name].abs().max() > 0) for name in names if not name.endswith("k_proj.bias"))  # type: ignore[union-attr]


def test_spectrogram_is_a_view_of_time_and_bins(trained: Model, samples: list[Sample]) -> None:
    batch = training(trained).collate(trained, samples[:2])
    spectrogram: Any = training(trained).spectrogram
    spectrogram(trained, batch)[1, 5:7, 3] = 9.0
    assert (batch["input_features"] == 9.0).nonzero().tolist() == [[1, 3, 5], [1, 3, 6]]


def test_a_pruned_student_comes_closer_and_is_saved_exactly(tmp_path: Path) -> None:
    model = sottovoce.load(TRAINED)
    distill = {"step": "distill", "steps": 6, "batch": 4, "evaluations": 2, "held_out": 0.2, "must_improve": True}
    recipe = {"steps": [{"step": "prune_layers", "text": 0.5}, distill | {"spec_augment": True, "degrade": 0.5}]}
    sottovoce.compress(model, recipe, Samples(read_samples(DATA / "calibration.jsonl")[:24]))
    assert model.report is not None
    details = model.report.steps[1].details
    assert details["score_after"] < details["score_before"]
    # It compares what it writes with what it reads again, and refuses a difference.
    sottovoce.save(model, tmp_path / "small")
    sample = read_samples(DATA / "test.jsonl")[0]
    loaded = sottovoce.load(tmp_path / "small")
    assert loaded.architecture.runner.forward(loaded, sample).equal(model.architecture.runner.forward(model, sample))


def test_audio_that_is_longer_than_a_window_is_cut_off_and_the_first_such_sample_named(
    trained: Model, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inference, "_SHORTENED", [])
    for module in (inference, training_functions):
        monkeypatch.setattr(module, "WINDOW", 1.0)
    key = samples[0].key
    for _ in range(2):
        batch = training(trained).collate(trained, samples)
        inference.forward(trained, samples[1])
    assert batch["input_features_mask"].sum(1).tolist() == [100] * len(samples)
    assert caplog.text.count("only the first 1 s of its") == 1
    assert f"sample {key!r}: " in caplog.text
