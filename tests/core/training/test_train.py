"""The steps ``distill`` and ``fine_tune`` on a toy family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from core.toy import make_model
from core.training.letters import HOST, SAMPLES, damaged, make_samples, make_training_host, trained
from sottovoce import Model
from sottovoce.calibration.reference import Reference
from sottovoce.errors import RecipeError, SamplesError, SottovoceError, UsageError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("teacher"))


def divergence(source: Path, model: Model) -> float:
    return Reference(sottovoce.load(source, host=HOST), tuple(make_samples(8, seed=9))).divergence(model)["all"]


def test_distilled_student_comes_closer_to_its_teacher_without_labels(source: Path) -> None:
    model, report = trained(source, make_samples(language="en"), steps=100, learning_rate=3e-3)
    before, after = (report.details[name] for name in ("score_before", "score_after"))
    assert after < 0.2 * before
    assert divergence(source, model) < 0.2 * divergence(source, damaged(source))
    assert not model.module.training


def test_fine_tuned_model_learns_the_labels(source: Path) -> None:
    model, report = trained(source, step="fine_tune", steps=150, learning_rate=1e-2, label_smoothing=0.0)
    assert report.details["score_after"] < 0.1
    assert sottovoce.evaluate(model, make_samples(2, seed=8), host=HOST).metrics
    assert report.tags == ("fine-tuned",)


def test_report_says_teacher_samples_updates_and_scores(source: Path) -> None:
    _, report = trained(source, evaluations=3)
    details = report.details
    assert (details["steps"], details["samples"], details["held_out_samples"]) == (30, 38, 2)
    assert details["teacher"] == source.name
    assert [point["step"] for point in details["evaluations"]] == [0, 10, 20, 30]
    assert report.summary is not None and "Distilled from" in report.summary.en
    assert report.tables[0].rows[-1][0] == 30
    assert "distillation" in report.tags


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(source: Path) -> None:
    first, second, other = (trained(source, seed=seed)[0].module.state_dict() for seed in (0, 0, 1))
    assert all(first[name].equal(second[name]) for name in first)
    assert any(not first[name].equal(other[name]) for name in first)


@pytest.mark.parametrize(
    "settings",
    [{"average": 0.9}, {"accumulate": 3}, {"gradient_checkpointing": True}, {"precision": "bfloat16"}],
    ids=str,
)
def test_options_of_the_loop_train_as_well(source: Path, settings: dict[str, Any]) -> None:
    _, report = trained(source, steps=60, learning_rate=3e-3, **settings)
    assert report.details["score_after"] < 0.5 * report.details["score_before"]


def test_gradient_checkpointing_changes_nothing_but_memory(source: Path) -> None:
    plain, checkpointed = (trained(source, gradient_checkpointing=on)[0].module.state_dict() for on in (False, True))
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-6) for name in plain)


def test_only_named_parameters_are_trained(source: Path) -> None:
    before = damaged(source).module.state_dict()
    model, report = trained(source, train=["re:blocks.*"], freeze=["blocks.1"])
    changed = {name for name, tensor in model.module.state_dict().items() if not tensor.equal(before[name])}
    assert changed == {"blocks.0.weight", "blocks.0.bias"}
    assert report.details["trained_parameters"] == 32 * 33


def test_parameters_that_the_family_freezes_stay(source: Path) -> None:
    host = make_training_host(freeze={"embed": "a table"})
    before = damaged(source, host).module.embed.weight.clone()
    model, _ = trained(source, host=host)
    assert model.module.embed.weight.equal(before)
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_zeros_of_pruning_stay_zeros(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    steps = [
        {"step": "prune_weights", "method": "magnitude", "sparsity": 0.5},
        {"step": "distill", "steps": 40, "batch": 8, "evaluations": 2, "learning_rate": 1e-3},
        {"step": "prune_weights", "method": "magnitude", "sparsity": 0.75},
        {"step": "fine_tune", "steps": 10, "batch": 8, "evaluations": 1, "learning_rate": 1e-3},
    ]
    report = sottovoce.compress(model, {"steps": steps}, SAMPLES, host=HOST)
    assert report.steps[1].details["score_after"] < report.steps[1].details["score_before"]
    for block in model.module.blocks:
        assert float((block.weight == 0).float().mean()) == pytest.approx(0.75, abs=0.01)


def test_dtype_is_that_of_before(source: Path, tmp_path: Path) -> None:
    model = damaged(source)
    model.module.to(torch.bfloat16)
    sottovoce.compress(model, {"steps": [{"step": "distill", "steps": 3}]}, training_samples=SAMPLES, host=HOST)
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.bfloat16}


def test_diverging_loss_ends_training_and_keeps_the_best_weights(source: Path) -> None:
    model, report = trained(source, steps=60, learning_rate=1e12, max_norm=1e12, warmup=0.0)
    assert "the loss diverged" in report.details["stopped"]
    assert any("ended after" in note for note in report.notes)
    assert divergence(source, model) <= divergence(source, damaged(source)) * 1.001


def test_patience_ends_training(source: Path) -> None:
    _, report = trained(source, damage=0.0, steps=40, evaluations=20, patience=2, learning_rate=1e-2)
    assert report.details["stopped"].startswith("2 evaluations in a row")
    assert report.details["steps"] < 40


def test_student_that_never_improves_is_refused_where_it_must(source: Path) -> None:
    with pytest.raises(SottovoceError, match="never came closer to its teacher.*refuses an untrained student"):
        trained(source, damage=0.0, must_improve=True, steps=5)


def test_optional_step_is_left_out_without_training_samples(source: Path) -> None:
    model = damaged(source)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    recipe = {"steps": [{"step": "distill", "optional": True}]}
    report = sottovoce.compress(model, recipe, SAMPLES, host=HOST).steps[0]
    assert report.summary is not None and report.summary.en.startswith("Not trained")
    assert report.tags == ()
    assert all(tensor.equal(before[name]) for name, tensor in model.module.state_dict().items())


def test_samples_of_the_calibration_train_where_no_others_are_given(source: Path) -> None:
    model = damaged(source)
    report = sottovoce.compress(model, {"steps": [{"step": "distill", "steps": 3}]}, SAMPLES, host=HOST).steps[0]
    assert report.details["samples"] == 38


@pytest.mark.parametrize(
    ("settings", "error", "problem"),
    [
        ({"train": ["no_such"]}, RecipeError, "'no_such' names no parameter"),
        ({"freeze": ["re:.*"]}, RecipeError, "no parameter is left to train"),
        ({"terms": {"other": 1}}, RecipeError, "'other' is not a term of the loss"),
        ({"alpha": 0}, RecipeError, "use the step fine_tune"),
        ({"steps": 0}, RecipeError, "steps"),
        ({"precision": "int8"}, RecipeError, "precision"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    source: Path, settings: dict[str, Any], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        trained(source, **settings)


def test_step_without_samples_is_refused_before_the_work(source: Path) -> None:
    with pytest.raises(SamplesError, match=r"trains on real samples: give them \(--train-data\)"):
        trained(source, None)


def test_labels_are_asked_for_where_they_are_needed(source: Path) -> None:
    with pytest.raises(SamplesError, match="have no labels"):
        trained(source, make_samples(language="en"), step="fine_tune")


def test_family_without_training_is_named(source: Path, tmp_path: Path) -> None:
    from core.toy import make_host

    model = sottovoce.load(source, host=make_host())
    with pytest.raises(RecipeError, match="toy states no training"):
        sottovoce.compress(model, {"steps": [{"step": "distill"}]}, training_samples=SAMPLES, host=make_host())


def test_student_larger_than_its_teacher_is_refused(source: Path, tmp_path: Path) -> None:
    small = make_model(tmp_path / "small", width=16)
    with pytest.raises(RecipeError, match=r"has more parameters \(2,632\) than its teacher .*small \(\d+\)"):
        trained(source, teacher=str(small))


def test_wider_teacher_is_learned_from(source: Path, tmp_path: Path) -> None:
    wide = make_model(tmp_path / "wide", width=64, seed=4)
    _, report = trained(source, teacher=str(wide), steps=100, learning_rate=3e-3)
    assert report.details["teacher"] == "wide"
    assert report.details["score_after"] < report.details["score_before"]


def test_evaluation_on_trained_samples_is_told_and_not_recorded(source: Path, tmp_path: Path) -> None:
    model, _ = trained(source, steps=3)
    directory = sottovoce.save(model, tmp_path / "student", host=HOST)
    assert json.loads((directory / "trained_samples.json").read_text())["count"] == len(SAMPLES)
    other = sottovoce.evaluate(sottovoce.load(directory, host=HOST), make_samples(3, seed=77), host=HOST)
    assert other.trained_on == 0
    report = sottovoce.evaluate(sottovoce.load(directory, host=HOST), make_samples(3), host=HOST)
    assert report.trained_on == 3
    from sottovoce.entrypoints.record import record

    with pytest.raises(UsageError, match="was trained on 3 of 3 samples; measure on others"):
        record(report, directory)


def test_gate_on_trained_samples_is_refused(source: Path) -> None:
    with pytest.raises(SamplesError, match="2 samples are among those to train on too"):
        sottovoce.compress(
            damaged(source),
            {"steps": [{"step": "distill"}], "gate": {"max_cer_increase": 1.0}},
            training_samples=SAMPLES,
            gate_samples=make_samples(2),
            host=HOST,
        )
