"""The loss of a batch against the classic formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from core.training.letters import training
from sottovoce import TrainingOutputs
from sottovoce.architecture import UNLABELED
from sottovoce.errors import RecipeError, SamplesError
from sottovoce.training.losses import Loss, combine
from sottovoce.training.step import Distill, FineTune


def outputs(seed: int = 0, positions: int = 6, vocabulary: int = 5, width: int = 4, **changes: Any) -> TrainingOutputs:
    source = torch.Generator().manual_seed(seed)
    facts: dict[str, Any] = {
        "logits": torch.randn(positions, vocabulary, generator=source),
        "targets": torch.arange(positions) % vocabulary,
        "counts": (positions // 2, positions - positions // 2),
        "states": {"hidden": torch.randn(positions, width, generator=source)},
        "losses": {"size": torch.ones(2)},
    }
    return TrainingOutputs(**(facts | changes))


@given(st.floats(0.1, 1.0), st.floats(0.5, 4.0), st.integers(0, 100))
def test_loss_is_the_classic_formula(alpha: float, temperature: float, seed: int) -> None:
    """Hinton et al., arXiv 1503.02531: ``soft * alpha * T^2 + hard * (1 - alpha)``."""
    ours, theirs = outputs(seed), outputs(seed + 1)
    step = Distill(alpha=alpha, temperature=temperature, terms={"hidden": 0, "size": 0})
    p, q = (theirs.logits / temperature).softmax(-1), (ours.logits / temperature).softmax(-1)
    soft = (p * (p.log() - q.log())).sum(-1).mean()
    hard = -ours.logits.log_softmax(-1)[torch.arange(6), ours.targets].mean()
    expected = soft * alpha * temperature**2 + hard * (1 - alpha)
    assert torch.allclose(combine(Loss(training(), step)(ours, theirs)), expected, atol=1e-5)


def test_states_and_losses_of_the_labels_are_added_with_their_weights() -> None:
    ours, theirs = outputs(0), outputs(1)
    step = Distill(alpha=0.5, terms={"logits": 0, "hidden": 3.0, "size": 10.0})
    terms = Loss(training(), step)(ours, theirs)
    distance = (ours.states["hidden"] - theirs.states["hidden"]).square().mean()
    hard = functional.cross_entropy(ours.logits, ours.targets)
    assert torch.allclose(combine(terms), 3.0 * distance + 0.5 * hard + 0.5 * 10.0, atol=1e-5)


def test_positions_have_the_weight_of_their_sample() -> None:
    ours, theirs = outputs(0), outputs(1)
    term = Loss(training(), Distill(terms={"hidden": 0}))(ours, theirs, [1.0, 0.0])["logits"]
    first = Loss(training(), Distill(terms={"hidden": 0}))(
        outputs(0, logits=ours.logits[:3], counts=(3,)), outputs(1, logits=theirs.logits[:3], counts=(3,))
    )["logits"]
    assert torch.allclose(term.mean, first.mean.to(term.mean), atol=1e-6)


def test_positions_without_a_label_do_not_count() -> None:
    ours = outputs(0, targets=torch.tensor([0, UNLABELED, 2, UNLABELED, 4, 0]))
    loss = Loss(training(), FineTune(label_smoothing=0.0, terms={"size": 0}))(ours, None)
    kept = ours.targets != UNLABELED
    assert torch.allclose(combine(loss), functional.cross_entropy(ours.logits[kept], ours.targets[kept]))


def test_terms_without_weight_are_left_out() -> None:
    assert set(Loss(training(), Distill(terms={"hidden": 0}))(outputs(), outputs(1))) == {"logits"}


def test_unknown_term_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        RecipeError, match=r"distill: 'encoder' is not a term of the loss; terms are hidden, logits, size"
    ):
        Loss(training(), Distill(terms={"encoder": 1.0}))


@pytest.mark.parametrize(
    ("teacher", "problem"),
    [
        (outputs(1, vocabulary=7), r"different vocabularies \(7 and 5\)"),
        (outputs(1, positions=8), r"split the text differently \(8 and 6 tokens\)"),
        (outputs(1, states={"hidden": torch.zeros(9, 4)}), r"different frame rates \(9 and 6 items of hidden\)"),
    ],
)
def test_teacher_that_does_not_fit_is_refused(teacher: TrainingOutputs, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        Loss(training(), Distill()).check(outputs(), teacher)


def test_missing_labels_are_refused_only_where_they_are_needed() -> None:
    ours, theirs = outputs(targets=None), outputs(1, targets=None)
    Loss(training(), Distill()).check(ours, theirs)
    for step in (Distill(alpha=0.5), FineTune()):
        with pytest.raises(SamplesError, match=r"have no labels \(text\)"):
            Loss(training(), step).check(ours, theirs)


def test_wider_states_are_reached_by_a_projection_that_learns() -> None:
    loss = Loss(training(), Distill())
    ours, theirs = outputs(0), outputs(1, width=9)
    loss.check(ours, theirs)
    combine(loss(ours, theirs)).backward()
    assert [tuple(parameter.shape) for parameter in loss.projections.parameters()] == [(9, 4), (9,)]
    assert all(parameter.grad is not None for parameter in loss.projections.parameters())
