"""Outputs of a model before it is changed, and the divergence of the changed model from them, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sottovoce.errors import SamplesError

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.model import Model
    from sottovoce.samples import Sample

ALL = "all"
"""Name of the mean over all tokens."""


@dataclass
class DivergenceSums:
    """Sums of divergences over token positions, in nats, by the kind of the sample."""

    nats: dict[str, float] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, nats: float, positions: int) -> None:
        """Count the positions of one sample."""
        for name in (ALL, kind) if kind != ALL else (ALL,):
            self.nats[name] = self.nats.get(name, 0.0) + nats
            self.positions[name] = self.positions.get(name, 0) + positions

    def __add__(self, other: DivergenceSums) -> DivergenceSums:
        total = DivergenceSums(dict(self.nats), dict(self.positions))
        for name, nats in other.nats.items():
            total.nats[name] = total.nats.get(name, 0.0) + nats
            total.positions[name] = total.positions.get(name, 0) + other.positions[name]
        return total

    @property
    def means(self) -> dict[str, float]:
        """Mean divergence in nats per token: of all positions as ``all``, and by the samples' kind."""
        return {name: self.nats[name] / self.positions[name] for name in self.nats if self.positions[name]}


class Reference:
    """The outputs of a model on samples, which a changed model is compared with.

    Both give their logits at the tokens of the reference: at the tokens of the samples' own text or answer, or, where a
    sample has none, at as many positions as the reference itself counts. So an error shows that is far too small to
    change a text.
    """

    def __init__(self, model: Model, samples: Sequence[Sample]) -> None:
        """Run the reference on the samples.

        Raises:
            SamplesError: The model has no output on any of them.
        """
        self._samples: list[tuple[Sample, int | None, Tensor]] = []
        for sample in samples:
            logits = _logits(model, sample, None)
            if logits is not None and len(logits):
                self._samples.append((sample, len(logits), logits.log_softmax(-1)))
        if not self._samples:
            raise SamplesError(f"{model.source.name}: has no output on any of the samples; give others")

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def positions(self) -> int:
        """Number of tokens that are compared."""
        return sum(len(logits) for _, _, logits in self._samples)

    @property
    def uncertainty(self) -> float:
        """Sum over the tokens of ``1 - sum(p^2)``: 0 where the reference is certain of all.

        To second order KL(p || q) is half the variance under ``p`` of the change of the logits, which is at most that
        of their largest change times this number.
        """
        return sum(float((1 - logits.exp().square().sum(-1)).sum()) for _, _, logits in self._samples)

    def divergence(self, model: Model) -> Mapping[str, float]:
        """Return the mean of KL(reference || model) in nats per token, of all as ``all`` and by the samples' kind."""
        return self.sums(model).means

    def sums(self, model: Model) -> DivergenceSums:
        """Return the sums of KL(reference || model), which may be added to those of other samples."""
        return sum(self.sums_by_sample(model), start=DivergenceSums())

    def sums_by_sample(self, model: Model) -> list[DivergenceSums]:
        """Return the sums of KL(reference || model) of every sample alone."""
        every: list[DivergenceSums] = []
        for sample, before, after in self._pairs(model):
            count = min(len(before), len(after))
            nats = (before[:count].exp() * (before[:count] - after[:count])).sum()
            sums = DivergenceSums()
            sums.add(sample.modality if sample.messages else ALL, max(float(nats), 0.0), count)
            every.append(sums)
        return every

    def _pairs(self, model: Model) -> Iterator[tuple[Sample, Tensor, Tensor]]:
        for sample, positions, before in self._samples:
            after = _logits(model, sample, positions)
            if after is not None:
                yield sample, before, after.log_softmax(-1)


def _logits(model: Model, sample: Sample, positions: int | None) -> Tensor | None:
    """Return float32 logits ``[positions, vocabulary]`` on the CPU; ``None`` for a sample without an answer."""
    import torch

    runner = model.architecture.runner
    with torch.inference_mode():
        if runner.counted_logits is not None:
            logits: Tensor | None = runner.counted_logits(model, sample, positions)
        elif runner.answer_logits is not None:
            logits = runner.answer_logits(model, sample)
        else:
            logits = runner.forward(model, sample)
    return None if logits is None else logits.float().cpu()
