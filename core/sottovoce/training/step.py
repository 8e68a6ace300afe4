"""Steps that train: ``distill`` and ``fine_tune``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sottovoce.recipe.pattern import Pattern
from sottovoce.recipe.step import Step
from sottovoce.report import StepReport, Table
from sottovoce.text.translations import Text
from sottovoce.training import description

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class TrainingStep(Step):
    """Settings of the training loop, which both steps share."""

    abstract: ClassVar[bool] = True
    steps: Count | None = None
    """Updates of the weights; by default as many as ``epochs`` take."""
    epochs: Positive = 3.0
    """Passes over the samples, where ``steps`` is not given."""
    batch: Count = 16
    """Samples of one forward pass, in each process."""
    accumulate: Count = 1
    """Forward passes whose gradients are added up for one update."""
    learning_rate: Positive = 3e-4
    """Highest learning rate of AdamW."""
    warmup: Share = 0.05
    """Share of the updates over which the learning rate rises; then it falls to 0 by a cosine."""
    weight_decay: Weight = 0.01
    """Weight decay of AdamW."""
    max_norm: Positive = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average (EMA) of the weights, which is kept in their place; 0 for none."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the products while training (AMP); the weights are float32."""
    gradient_checkpointing: bool = False
    """If true, activations within a block are computed again for the gradient, which takes less memory and more
    time."""
    shard: bool = False
    """If true, weights, those of a teacher too, gradients and the optimizer are divided among the processes (FSDP2),
    not copied (DDP)."""
    dropout: bool = False
    """If true, the model's own dropout is on while training."""
    train: tuple[Pattern, ...] | None = None
    """Patterns of the parameters to train; by default all but those that the family freezes."""
    freeze: tuple[Pattern, ...] = ()
    """Patterns of parameters that are not trained."""
    terms: Mapping[str, Weight] = {}
    """Weights of the family's terms of the loss, by name; 0 leaves one out."""
    kinds: Mapping[str, Weight] = {}
    """Weights of samples by their kind, ``text``, ``audio``, ``image`` or ``video``; by default 1."""
    degrade: Share = 0.0
    """Share of the audio that is heard in noise, with echo, or faster or slower."""
    spec_augment: bool = False
    """If true, the student hears spectrograms with masked bands of time and frequency (SpecAugment)."""
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Share of the samples that is not trained on, and which the best weights are chosen by."""
    evaluations: Count = 10
    """Number of times that the held-out samples are scored."""
    patience: Count | None = None
    """Evaluations in a row without a better score that end the training; by default it runs to its end."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the probability that all labels but the right one have."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the order of the samples and of all that is random."""
    optional: bool = False
    """If true, the step is left out where there are no samples for training."""

    @property
    def soft_share(self) -> float:
        """Share of a teacher's soft targets in the loss."""
        return 0.0

    @property
    def soft_temperature(self) -> float:
        """Temperature of a teacher's soft targets."""
        return 1.0

    @property
    def needs_training_samples(self) -> bool:
        """If true, the step needs samples to train on."""
        return not self.optional

    def summary(self, report: StepReport) -> Text:
        """Return how long and on how much the model was trained, and the score before and after."""
        return description.summarize(report)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the score of the held-out samples over time."""
        return description.tabulate(report)


class FineTune(TrainingStep):
    """Train the model on the labels of samples."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the probability that all labels but the right one have."""

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the tag for fine-tuning."""
        return () if description.is_skipped(report) else ("fine-tuned",)


class Distill(TrainingStep):
    """Train the model to answer as its teacher does: the model before the recipe, or another.

    The loss is ``alpha * T^2 * KL + (1 - alpha) * CE`` (Hinton et al., arXiv 1503.02531) and the terms that the family
    states, such as the encoder's output.
    """

    teacher: str | None = None
    """Directory or hub id of the teacher; by default the model as it was loaded."""
    alpha: Share = 1.0
    """Share of the teacher's soft targets; the rest is that of the labels. With 1 no labels are needed."""
    temperature: Positive = 1.0
    """Temperature of the soft targets."""
    must_improve: bool = False
    """If true, a student that training does not bring closer to its teacher is refused."""

    @property
    def soft_share(self) -> float:
        """Share of the teacher's soft targets in the loss."""
        return self.alpha

    @property
    def soft_temperature(self) -> float:
        """Temperature of the soft targets."""
        return self.temperature

    @model_validator(mode="after")
    def _learns_from_the_teacher(self) -> Distill:
        if self.alpha == 0:
            problem = "alpha: 0 learns nothing from the teacher; use the step fine_tune"
            raise PydanticCustomError("fit", "{problem}", {"problem": problem})
        return self

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the tag for distillation."""
        return () if description.is_skipped(report) else ("distillation",)
