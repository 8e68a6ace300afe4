"""The training loop: batches in, better weights out.

It stands on accelerate, which brings mixed precision, several processes and trackers to any torch module; transformers'
``Trainer`` would bring the same, but asks for models and data sets of its own kind, and writes pickles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sottovoce.architecture import Training, TrainingOutputs
from sottovoce.errors import SamplesError
from sottovoce.report.number_format import counted
from sottovoce.samples import Sample
from sottovoce.system import distributed
from sottovoce.system.progress import Progress, silent
from sottovoce.training import checkpoints
from sottovoce.training.average import MovingAverage
from sottovoce.training.batches import TrainingSet, batches_of_epoch
from sottovoce.training.degradation import Degradation
from sottovoce.training.description import Evaluation
from sottovoce.training.engine import Engine
from sottovoce.training.losses import Loss, Term, combine, score_of
from sottovoce.training.prefetch import Prefetcher
from sottovoce.training.spec_augment import masked
from sottovoce.training.student import TrainedModule, to_device

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.training.step import TrainingStep

_HELD_OUT = 2**31 - 1
"""Number in place of an epoch for the degraded copies of held-out samples."""
_DIVERGED = 20.0
"""Factor above the first loss from which training is said to diverge."""


@dataclass(kw_only=True)
class Outcome:
    """Result of a training loop."""

    steps: int = 0
    best_step: int = 0
    score_before: float = math.inf
    best_score: float = math.inf
    stopped: str = ""
    seconds: float = 0.0
    evaluations: list[Evaluation] = field(default_factory=list)


@dataclass(kw_only=True)
class Work:
    """All that a training loop works with."""

    student: Model
    teacher: Model | None
    training: Training
    step: TrainingStep
    samples: TrainingSet
    directory: Path | None = None
    key: str = ""
    log: Path | None = None
    progress: Progress = silent


class TrainingLoop:
    """The loop of one step."""

    def __init__(self, work: Work) -> None:
        """Prepare the optimizer, and the wrappers of several processes.

        Raises:
            RecipeError: Teacher and student do not fit, or the loss has no such term.
            SamplesError: A sample cannot be read, or has no labels where they are needed.
        """
        self._work, self._step = work, work.step
        step = work.step
        torch.manual_seed(step.seed)
        self._device = next(work.student.module.parameters()).device
        self._module = TrainedModule(work.student, work.training)
        self._teacher = None if work.teacher is None else TrainedModule(work.teacher, work.training)
        self._loss = Loss(work.training, step).to(self._device)
        self._degradation = Degradation(work.samples.trained, step.degrade, step.seed)
        self._lengths = [sample.seconds or len(sample.text or "") for sample in work.samples.trained]
        if len(self._lengths) < distributed.world_size():
            raise SamplesError(
                f"{step.name}: {counted(len(self._lengths), 'sample')} to train on, fewer than "
                f"{counted(distributed.world_size(), 'process', 'processes')}; give more samples, or start fewer "
                "processes"
            )
        self._size = min(step.batch * distributed.world_size(), len(self._lengths))
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        self._held_out: list[dict[str, Any]] = []
        self._check_first_batch()
        self.total = step.steps or max(1, math.ceil(step.epochs * self._batches_of_epoch / step.accumulate))
        self._engine = Engine(work.student, self._module, self._loss.projections, step, work.log)
        if work.teacher is not None and self._teacher is not None:
            self._engine.divide_(work.teacher, self._teacher)
        self._average = MovingAverage(self._module, step.average) if step.average else None
        self._batches: Prefetcher[tuple[dict[str, Any], list[Sample]]] | None = None
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Train, and leave the model with the weights of the best score."""
        try:
            return self._run()
        finally:
            if self._batches is not None:
                self._batches.close()
            self._engine.close()

    def _run(self) -> Outcome:
        begin, best = time.perf_counter(), self._start()
        outcome, evaluations = self.outcome, min(self._step.evaluations, self.total)
        waited, sums = 0, _Sums()
        self._batches = Prefetcher(self._prepare, outcome.steps * self._step.accumulate)
        done_before = outcome.seconds
        while outcome.steps < self.total and not outcome.stopped:
            loss = self._update(outcome.steps, sums)
            if not self._is_sound(loss):
                break
            outcome.steps += 1
            self._work.progress(f"{self._step.name} updates", outcome.steps, self.total)
            if outcome.steps * evaluations // self.total == (outcome.steps - 1) * evaluations // self.total:
                continue
            score = self._evaluate(sums)
            sums = _Sums()
            waited = 0 if score < outcome.best_score else waited + 1
            if score < outcome.best_score:
                outcome.best_score, outcome.best_step, best = score, outcome.steps, self._weights()
            if self._step.patience and waited >= self._step.patience and outcome.steps < self.total:
                outcome.stopped = f"{counted(waited, 'evaluation')} in a row without a better score"
            outcome.seconds = done_before + time.perf_counter() - begin
            self._keep(best)
        outcome.seconds = done_before + time.perf_counter() - begin
        checkpoints.load_weights_(self._module, best)
        return outcome

    def _start(self) -> checkpoints.Weights:
        """Go to where interrupted training was, or measure the start; return the best weights so far."""
        checkpoint = checkpoints.read(self._work.directory, self._work.key)
        if checkpoint is not None:
            checkpoints.load_weights_(self._module, checkpoint.weights)
            checkpoints.load_optimizer_(self._named, self._engine.optimizer, checkpoint.optimizer)
            self._loss.projections.load_state_dict(checkpoint.projections)
            if self._average is not None:
                self._average.load_(checkpoint.average)
            evaluations = [Evaluation.model_validate(form) for form in checkpoint.facts["evaluations"]]
            self.outcome = Outcome(**{**checkpoint.facts, "evaluations": evaluations})
            return checkpoint.best
        self._evaluate(_Sums())
        self.outcome.best_score = self.outcome.score_before
        return self._weights()

    def _keep(self, best: checkpoints.Weights) -> None:
        if self._work.directory is None:
            return
        facts = {**vars(self.outcome), "evaluations": [point.model_dump() for point in self.outcome.evaluations]}
        checkpoint = checkpoints.Checkpoint(
            weights=checkpoints.weights_of(self._module),
            optimizer=checkpoints.optimizer_state(self._named, self._engine.optimizer),
            projections={name: tensor.cpu() for name, tensor in self._loss.projections.state_dict().items()},
            average=self._average.whole() if self._average is not None else {},
            best=best,
            facts=facts,
        )
        checkpoints.write(self._work.directory, self._work.key, checkpoint)

    @property
    def _named(self) -> dict[str, nn.Parameter]:
        """Parameters that the optimizer changes, by name."""
        parts = (("", self._module), ("projections.", self._loss.projections))
        return {
            f"{prefix}{name}": parameter
            for prefix, part in parts
            for name, parameter in part.named_parameters()
            if parameter.requires_grad
        }

    def _weights(self) -> checkpoints.Weights:
        if self._average is None:
            return checkpoints.weights_of(self._module)
        with self._average.in_place(self._module):
            return checkpoints.weights_of(self._module)

    def _is_sound(self, loss: float) -> bool:
        """Return false, with the reason, once the loss is not finite or grows without bound."""
        first = self.outcome.evaluations[1].training if len(self.outcome.evaluations) > 1 else None
        if math.isfinite(loss) and (first is None or loss < _DIVERGED * max(first, 0.1)):
            return True
        self.outcome.stopped = (
            f"the loss diverged at update {self.outcome.steps + 1} ({loss:.3g}); the best weights before were kept; "
            "try a lower learning_rate"
        )
        return False

    @property
    def _batches_of_epoch(self) -> int:
        return max(1, len(self._lengths) // self._size)

    def _batch(self, number: int) -> tuple[list[int], int]:
        """Return the samples of this process in a batch, counted from the start of training, and the epoch."""
        epoch, place = divmod(number, self._batches_of_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, batches_of_epoch(self._lengths, self._size, self._step.seed, epoch)
        return distributed.share(self._epoch[1][place]), epoch

    def _collate(self, samples: Sequence[Sample]) -> dict[str, Any]:
        return to_device(self._work.training.collate(self._work.student, samples), self._device)

    def _check_first_batch(self) -> None:
        """Run a few samples, so that what does not fit is an error before the work."""
        samples = self._work.samples.held_out[:2]
        self._first_batch = self._collate(samples)
        with torch.no_grad():
            student, teacher = self._outputs(self._first_batch, self._module)
            self._loss.check(student, teacher)

    def _outputs(
        self, batch: Mapping[str, Any], module: nn.Module, heard: Mapping[str, Any] | None = None
    ) -> tuple[TrainingOutputs, TrainingOutputs | None]:
        """Run teacher and student; ``heard`` is the student's own batch."""
        reference = None
        if self._teacher is not None:
            with torch.no_grad():
                reference = self._teacher(batch, None)
        return module(batch if heard is None else heard, reference), reference

    def _prepare(self, number: int) -> tuple[dict[str, Any], list[Sample]]:
        """Return a batch of this process, counted from the start of training, and its samples."""
        numbers, epoch = self._batch(number)
        samples = [self._degradation(self._work.samples.trained[index], index, epoch) for index in numbers]
        return dict(self._work.training.collate(self._work.student, samples)), samples

    def _update(self, step: int, sums: _Sums) -> float:
        """Change the weights once; return the loss."""
        engine, loss = self._engine, 0.0
        for part in range(self._step.accumulate):
            is_last = part == self._step.accumulate - 1
            number = step * self._step.accumulate + part
            assert self._batches is not None
            prepared, samples = self._batches.take()
            batch = to_device(prepared, self._device)
            torch.manual_seed((self._step.seed * 1_000_003 + number) * 4096 + distributed.rank())
            with engine.computing(is_last):
                outputs = self._outputs(batch, engine.module, self._heard(batch, number))
                terms = self._terms(*outputs, samples)
                total = combine(_over_all_processes(terms))
                engine.backward(total * distributed.world_size() / self._step.accumulate)
            loss += float(total.detach()) / self._step.accumulate
            sums.add(terms)
        # The loss of a process is its share of the whole.
        whole = torch.tensor([loss], dtype=torch.float64)
        distributed.sum_(whole)
        if math.isfinite(float(whole)):
            engine.step(_rate(step, self.total, self._step))
            if self._average is not None:
                self._average.update_(self._module)
        return float(whole)

    def _heard(self, batch: Mapping[str, Any], number: int) -> Mapping[str, Any] | None:
        spectrogram = self._work.training.spectrogram
        if not self._step.spec_augment or spectrogram is None:
            return None
        seed = (self._step.seed * 7919 + number) * 4096 + distributed.rank()
        return masked(batch, lambda copy: spectrogram(self._work.student, copy), seed)

    def _terms(
        self, student: TrainingOutputs, teacher: TrainingOutputs | None, samples: Sequence[Sample]
    ) -> dict[str, Term]:
        weights = [self._step.kinds.get(sample.modality, 1.0) for sample in samples]
        terms: dict[str, Term] = self._loss(student, teacher, weights)
        return terms

    def _evaluate(self, sums: _Sums) -> float:
        """Score the held-out samples, and record it."""
        module = self._module
        if self._average is None:
            score = self._score(module)
        else:
            with self._average.in_place(module):
                score = self._score(module)
        outcome = self.outcome
        if not outcome.evaluations:
            outcome.score_before = score
        training = sums.mean()
        outcome.evaluations.append(Evaluation(step=outcome.steps, held_out=score, training=training))
        self._engine.log({"held_out": score} | ({"training": training} if training is not None else {}), outcome.steps)
        return score

    def _score(self, module: nn.Module) -> float:
        sums = _Sums()
        batches = self._held_out_batches()
        # All processes run as many: a divided model needs all of them for each.
        surplus = [self._first_batch] * (max(distributed.gather(len(batches))) - len(batches))
        with torch.no_grad():
            for batch in batches:
                sums.add(self._loss(*self._outputs(to_device(batch, self._device), module), None))
            for batch in surplus:
                self._outputs(batch, module)
        return score_of(sums.over_all_processes())

    def _held_out_batches(self) -> list[dict[str, Any]]:
        """Return the batches of this process's held-out samples, which are prepared once."""
        if not self._held_out:
            samples = distributed.share(self._work.samples.held_out)
            # Degraded as well, in the same way every time: the weights are for what they will hear.
            samples = [self._degradation(sample, number, _HELD_OUT) for number, sample in enumerate(samples)]
            samples = sorted(samples, key=lambda sample: sample.seconds)
            parts = [samples[first : first + self._step.batch] for first in range(0, len(samples), self._step.batch)]
            self._held_out = [dict(self._work.training.collate(self._work.student, part)) for part in parts]
        return self._held_out


@dataclass
class _Sums:
    """Sums of terms over many batches."""

    terms: dict[str, Term] = field(default_factory=dict)

    def add(self, terms: Mapping[str, Term]) -> None:
        for name, term in terms.items():
            total, count = term.total.detach().double(), term.count.detach()
            if name in self.terms:
                total, count = total + self.terms[name].total, count + self.terms[name].count
            self.terms[name] = Term(total, count, term.weight)

    def over_all_processes(self) -> dict[str, Term]:
        names = sorted({name for names in distributed.gather(sorted(self.terms)) for name in names})
        weights = {name: weight for part in distributed.gather(self._weights()) for name, weight in part.items()}
        zero = torch.zeros((), dtype=torch.float64)
        terms = {}
        for name in names:
            known = self.terms.get(name)
            pair = torch.stack([zero, zero] if known is None else [known.total.cpu(), known.count.cpu().double()])
            distributed.sum_(pair)
            terms[name] = Term(pair[0], pair[1], weights[name])
        return terms

    def mean(self) -> float | None:
        """Return the mean loss of all batches; ``None`` without any."""
        terms = self.over_all_processes()
        return float(combine(terms)) if terms else None

    def _weights(self) -> dict[str, float]:
        return {name: term.weight for name, term in self.terms.items()}


def _over_all_processes(terms: Mapping[str, Term]) -> dict[str, Term]:
    """Divide by the number of items in all processes, so that their gradients add up to those of one batch."""
    if distributed.world_size() == 1:
        return dict(terms)
    names = sorted(terms)
    counts = torch.stack([terms[name].count for name in names])
    distributed.sum_(counts)
    return {name: Term(terms[name].total, count, terms[name].weight) for name, count in zip(names, counts, strict=True)}


def _rate(step: int, total: int, settings: TrainingStep) -> float:
    """Return the learning rate of an update: it rises, and falls by a cosine."""
    warmup = max(1, round(settings.warmup * total))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * (0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
