"""Application of the steps that train."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.calibration.calibration import check_samples
from sottovoce.errors import MemoryLimitError, RecipeError, SamplesError, SottovoceError
from sottovoce.report import StepReport
from sottovoce.report.number_format import counted
from sottovoce.samples import Samples, SampleSketch
from sottovoce.system import distributed
from sottovoce.training.batches import TrainingSet
from sottovoce.training.description import Trained
from sottovoce.training.step import Distill, TrainingStep

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.training.loop import Outcome


def train_(model: Model, architecture: Architecture, step: TrainingStep, calibration: Calibration) -> StepReport:
    """Train a model in place, as the step says.

    Raises:
        RecipeError: The family is not trained here, or the step or the teacher does not fit the model.
        SamplesError: There are no samples, or they cannot be trained on.
        MemoryLimitError: The model's blocks are on disk.
        SottovoceError: A package is missing, or the student must improve and did not.
    """
    samples = calibration.training_samples or calibration.samples
    training = architecture.training
    if step.optional and calibration.training_samples is None:
        return _skipped(step, "no samples for training were given (--train-data)")
    if step.optional and training is None:
        return _skipped(step, f"{architecture.name} states no training")
    if training is None:
        raise RecipeError(f"{step.name}: {architecture.name} states no training; leave the step out")
    if model.stream is not None:
        raise MemoryLimitError(
            f"{step.name}: the blocks of {model.source.name} are read from disk one by one, and training needs all of "
            "them; load it whole, with more memory, or use distill_blocks"
        )
    # They need torch, which describing the steps does not.
    from sottovoce.runtime.layers import is_quantized
    from sottovoce.training.loop import TrainingLoop, Work
    from sottovoce.training.losses import Loss
    from sottovoce.training.student import parameters_to_train, prepared_for_training

    Loss(training, step)
    if not is_quantized(model.module):  # those of quantized layers are there once these are prepared
        parameters_to_train(model.module, training, step)
    if any(parameter.is_meta for parameter in model.module.parameters()):
        return StepReport(step=step.to_dict())
    if samples is None:
        raise SamplesError(f"{step.name} trains on samples: give them (--train-data)")

    notes = check_samples(samples, architecture)
    parts = TrainingSet.of(tuple(samples), step.held_out)
    teacher = _teacher(model, step, calibration)
    with prepared_for_training(model, training, step, teacher.module if teacher else None) as trained:
        loop = TrainingLoop(
            Work(
                student=model,
                teacher=teacher,
                training=training,
                step=step,
                samples=parts,
                directory=calibration.directory,
                key=_key(calibration, step, samples),
                log=calibration.log,
                progress=calibration.progress,
            )
        )
        outcome = loop.run()
        sizes = {name: parameter.numel() for name, parameter in model.module.named_parameters()}
    if isinstance(step, Distill) and step.must_improve and not outcome.best_step:
        raise SottovoceError(
            f"{step.name}: the student never came closer to its teacher in {counted(outcome.steps, 'update')} "
            f"({outcome.stopped or 'no evaluation was better than the start'}), and this recipe refuses an untrained "
            "student; give more samples (--train-data) or more steps"
        )
    model.trained_samples = _with(model.trained_samples, SampleSketch.of(samples))
    return _report(step, samples, parts, teacher, outcome, sum(sizes[name] for name in trained), notes)


def _teacher(model: Model, step: TrainingStep, calibration: Calibration) -> Model | None:
    if not isinstance(step, Distill):
        return None
    if calibration.load_teacher is None:
        raise RecipeError(f"{step.name}: there is no model to learn from; name a teacher")
    teacher = calibration.load_teacher(step.teacher)
    if teacher.architecture.name != model.architecture.name:
        raise RecipeError(
            f"{step.name}: the teacher {teacher.source.name} is a {teacher.architecture.name}, and the student a "
            f"{model.architecture.name}; give a teacher of the same family"
        )
    smaller = _count(teacher) < _count(model)
    if smaller:
        raise RecipeError(
            f"{step.name}: the student has more parameters ({_count(model):,}) than its teacher {teacher.source.name} "
            f"({_count(teacher):,}); give a larger teacher"
        )
    for parameter in teacher.module.parameters():
        parameter.requires_grad_(False)
    teacher.module.eval()
    return teacher


def _count(model: Model) -> int:
    from sottovoce.runtime.layers import parameters_by_bits

    return sum(parameters_by_bits(model.module).values())


def _key(calibration: Calibration, step: TrainingStep, samples: Samples) -> str:
    facts = [calibration.key, step.to_dict(), samples.identity, distributed.world_size()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _with(known: SampleSketch | None, more: SampleSketch) -> SampleSketch:
    return more if known is None else known | more


def _skipped(step: TrainingStep, reason: str) -> StepReport:
    return StepReport(
        step=step.to_dict(), details=Trained(skipped=reason).model_dump(mode="json", exclude_defaults=True)
    )


def _report(
    step: TrainingStep,
    samples: Samples,
    parts: TrainingSet,
    teacher: Model | None,
    outcome: Outcome,
    trained: int,
    notes: tuple[str, ...],
) -> StepReport:
    details = Trained(
        teacher=None if teacher is None else Path(teacher.source.name).name,
        steps=outcome.steps,
        samples=len(parts.trained),
        held_out_samples=len(parts.held_out),
        audio_seconds=round(sum(sample.seconds for sample in samples), 3),
        hours=round(outcome.seconds / 3600, 4),
        trained_parameters=trained,
        processes=distributed.world_size(),
        score_before=outcome.score_before,
        score_after=outcome.best_score,
        best_step=outcome.best_step,
        evaluations=tuple(outcome.evaluations),
        stopped=outcome.stopped,
    )
    if outcome.stopped:
        notes = (*notes, f"training ended after {counted(outcome.steps, 'update')}: {outcome.stopped}")
    if not outcome.best_step:
        notes = (*notes, "no evaluation was better than the start, so the weights are those before training")
    return StepReport(
        step=step.to_dict(),
        seconds=round(outcome.seconds, 3),
        notes=notes,
        details=details.model_dump(mode="json"),
    )
