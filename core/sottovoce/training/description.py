"""Description of training for reports and model cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from sottovoce.report import Column, Table
from sottovoce.report.fields import Count, Measured
from sottovoce.report.number_format import counted
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.report import StepReport


class Evaluation(BaseModel):
    """Scores after some updates of the weights, in nats per position."""

    step: Count
    held_out: Measured = None
    """Score of the held-out samples."""
    training: Measured = None
    """Mean loss since the evaluation before."""


class Trained(BaseModel):
    """Details of the report of a step that trains."""

    teacher: str | None = None
    """Name of the teacher; ``None`` for training on labels alone."""
    steps: Count = 0
    samples: Count = 0
    held_out_samples: Count = 0
    audio_seconds: Measured = None
    hours: Measured = None
    trained_parameters: Count = 0
    processes: Count = 1
    score_before: Measured = None
    """Score of the held-out samples before training."""
    score_after: Measured = None
    """The same with the weights that are kept."""
    best_step: Count = 0
    """Number of updates that the kept weights have had."""
    evaluations: tuple[Evaluation, ...] = ()
    stopped: str = ""
    """Reason why training ended before its time."""
    skipped: str = ""
    """Reason why the step did nothing."""


def is_skipped(report: StepReport) -> bool:
    """Return whether the step was left out."""
    return bool(Trained.model_validate(report.details).skipped)


def summarize(report: StepReport) -> Text:
    """Return one sentence on the training."""
    facts = Trained.model_validate(report.details)
    if facts.skipped:
        return Text(en=f"Not trained: {facts.skipped}.", zh=f"未训练：{facts.skipped}。")
    how_en = f"Distilled from {facts.teacher}" if facts.teacher else "Fine-tuned on labels"
    how_zh = f"以 {facts.teacher} 为教师蒸馏" if facts.teacher else "在标注上微调"
    before, after = (f"{value:.4g}" if value is not None else "-" for value in (facts.score_before, facts.score_after))
    return Text(
        en=f"{how_en}: {counted(facts.steps, 'update')} on {counted(facts.samples, 'sample')}; "
        f"loss per token on held-out samples {before} before, {after} after.",
        zh=f"{how_zh}：在 {facts.samples} 个样本上更新 {facts.steps} 次；"
        f"留出样本上每个词元的损失由 {before} 变为 {after}。",
    )


def tabulate(report: StepReport) -> tuple[Table, ...]:
    """Return the scores over time."""
    evaluations = Trained.model_validate(report.details).evaluations
    if not evaluations:
        return ()
    table = Table(
        title=Text(en="Loss per token while training, in nats", zh="训练过程中每个词元的损失（奈特）"),
        columns=(
            Column(label=Text(en="updates", zh="更新次数"), format="number"),
            Column(label=Text(en="held-out samples", zh="留出样本"), format="number"),
            Column(label=Text(en="training, all terms", zh="训练（全部损失项）"), format="number"),
        ),
        rows=tuple((point.step, point.held_out, point.training) for point in evaluations),
    )
    return (table,)
