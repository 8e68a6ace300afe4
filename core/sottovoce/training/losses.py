"""The loss of a batch: what the student matches of its teacher, the labels, and the family's own losses of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.architecture import LOGITS, UNLABELED, Match, Training, TrainingOutputs
from sottovoce.errors import RecipeError, SamplesError
from sottovoce.report.number_format import counted
from sottovoce.training.distances import DISTANCES
from sottovoce.training.step import TrainingStep

LABELS = "labels"
"""Name of the term of the labels."""


@dataclass
class Term:
    """One term of a loss: the sum over the items of a batch, and what it is divided by."""

    total: Tensor
    count: Tensor
    """Number of items, or the sum of their weights."""
    weight: float

    @property
    def mean(self) -> Tensor:
        """Mean of the items; 0 without any."""
        return self.total / self.count.clamp_min(1e-12).to(self.total.dtype)


class Loss(nn.Module):
    """The loss of a step, as the classic formula has it: ``alpha * soft * T^2 + (1 - alpha) * hard``, and more terms.

    ``soft`` is the divergence from the teacher's logits, ``hard`` the cross entropy of the labels, with the losses that
    the family adds to it. States are added with their weights.
    """

    def __init__(self, training: Training, step: TrainingStep) -> None:
        """Read the weights of a step.

        Raises:
            RecipeError: The step weighs a term that the family does not have.
        """
        super().__init__()
        self._step, self._training = step, training
        matches = training.matches if step.soft_share else {}
        known = {*matches, *training.losses}
        if unknown := sorted(set(step.terms) - known):
            raise RecipeError(
                f"{step.name}: {unknown[0]!r} is not a term of the loss; terms are {', '.join(sorted(known)) or 'none'}"
            )
        self._matches = {name: match for name, match in matches.items() if self._weight(name, match.weight)}
        self._own = {name: step.terms.get(name, weight) for name, weight in training.losses.items()}
        self._soft = step.soft_share
        self.projections = nn.ModuleDict()
        """By name of a match, the linear layer that brings the student's states to the teacher's width."""

    @property
    def needs_labels(self) -> bool:
        """True if labels have a share in the loss."""
        return self._soft < 1.0

    def check(self, student: TrainingOutputs, teacher: TrainingOutputs | None) -> None:
        """Check that both models give what is compared, and make projections for states of different width.

        Raises:
            RecipeError: The vocabularies, the number of tokens or the rates of the frames differ.
            SamplesError: The labels have a share in the loss, and a sample has none.
        """
        if self.needs_labels and bool((self._targets(student) == UNLABELED).all()):
            raise self._no_labels()
        if teacher is None:
            return
        name = self._step.name
        if student.logits.shape[-1] != teacher.logits.shape[-1]:
            sizes = f"{teacher.logits.shape[-1]} and {student.logits.shape[-1]}"
            raise RecipeError(
                f"{name}: teacher and student have different vocabularies ({sizes}); give another teacher"
            )
        if len(student.logits) != len(teacher.logits):
            sizes = f"{len(teacher.logits)} and {len(student.logits)}"
            raise RecipeError(f"{name}: teacher and student split the text differently ({sizes} tokens); give another")
        for key, match in self._matches.items():
            ours, theirs = _quantity(student, key, match), _quantity(teacher, key, match)
            if len(ours) != len(theirs):
                raise RecipeError(
                    f"{name}: teacher and student have different frame rates ({len(theirs)} and "
                    f"{counted(len(ours), 'item')} of {key}); give another teacher, or leave the term out "
                    f"(terms: {{{key}: 0}})"
                )
            if ours.dim() > 1 and ours.shape[-1] != theirs.shape[-1]:
                torch.manual_seed(self._step.seed)
                self.projections[key] = nn.Linear(ours.shape[-1], theirs.shape[-1], device=ours.device)

    def forward(
        self, student: TrainingOutputs, teacher: TrainingOutputs | None, item_weights: Sequence[float] | None = None
    ) -> dict[str, Term]:
        """Compute the terms of a batch.

        Args:
            student: The student's outputs.
            teacher: The teacher's outputs; ``None`` where only labels are learned.
            item_weights: A weight for each sample, which its positions have; by default 1.

        Raises:
            SamplesError: The labels have a share in the loss, and a sample of the batch has none.
        """
        weights = _position_weights(student, item_weights)
        terms: dict[str, Term] = {}
        for name, match in self._matches.items() if teacher is not None else ():
            assert teacher is not None
            ours, theirs = _quantity(student, name, match), _quantity(teacher, name, match)
            if name in self.projections:
                ours = self.projections[name](ours)
            distances = DISTANCES[match.distance](ours.float(), theirs.float(), self._step.soft_temperature)
            by_position = weights if _is_of_logits(name, match) else None
            share = self._soft if _is_of_logits(name, match) else 1.0
            terms[name] = _term(distances, by_position, share * self._weight(name, match.weight))
        if self.needs_labels:
            targets = self._targets(student)
            labeled = targets != UNLABELED
            hard = functional.cross_entropy(
                student.logits[labeled].float(),
                targets[labeled],
                reduction="none",
                label_smoothing=self._step.label_smoothing,
            )
            terms[LABELS] = _term(hard, None if weights is None else weights[labeled], 1.0 - self._soft)
        for name, items in student.losses.items():
            if weight := (1.0 - self._soft) * self._own.get(name, 0.0):
                terms[f"{LABELS} {name}"] = _term(items, None, weight)
        return terms

    def _targets(self, student: TrainingOutputs) -> Tensor:
        if student.targets is None:
            raise self._no_labels()
        return student.targets

    def _no_labels(self) -> SamplesError:
        what = f" ({self._training.labels})" if self._training.labels else ""
        return SamplesError(f"{self._step.name}: samples have no labels{what}, which the step learns from")

    def _weight(self, name: str, default: float) -> float:
        return self._step.terms.get(name, default)


def combine(terms: Mapping[str, Term]) -> Tensor:
    """Return the loss: the weighted sum of the means of the terms."""
    return torch.stack([term.weight * term.mean for term in terms.values()]).sum()


def score_of(terms: Mapping[str, Term]) -> float:
    """Return the score of held-out samples: the loss by the logits alone, in nats per position.

    The other terms help a student to learn; its answers are what counts.
    """
    names = [name for name in (LOGITS, LABELS) if name in terms] or list(terms)
    return float(sum(terms[name].weight * float(terms[name].mean) for name in names))


def _term(values: Tensor, weights: Tensor | None, weight: float) -> Term:
    if weights is None:
        count = torch.tensor(float(len(values)), dtype=torch.float64, device=values.device)
        return Term(values.sum(), count, weight)
    return Term((values * weights).sum(), weights.sum().double(), weight)


def _position_weights(outputs: TrainingOutputs, item_weights: Sequence[float] | None) -> Tensor | None:
    if item_weights is None or all(weight == 1 for weight in item_weights):
        return None
    device = outputs.logits.device
    return torch.repeat_interleave(
        torch.tensor(item_weights, device=device), torch.tensor(outputs.counts, device=device)
    )


def _is_of_logits(name: str, match: Match) -> bool:
    return (match.of or name) == LOGITS


def _quantity(outputs: TrainingOutputs, name: str, match: Match) -> Tensor:
    return outputs.logits if _is_of_logits(name, match) else outputs.states[match.of or name]
