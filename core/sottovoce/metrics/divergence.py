"""Divergence of the next token's distribution from the baseline's, token by token of the same text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sottovoce.metrics.collectors import Finish, collector
from sottovoce.metrics.kinds import MetricKind
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.report import Metric
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sottovoce.model import Model
    from sottovoce.samples import Run, Samples

DIVERGENCE = MetricKind(
    name="divergence",
    unit="nats",
    kind="against_baseline",
    better="lower",
    label=Text(en="KL divergence from the base model", zh="与基座模型的 KL 散度"),
    description=Text(
        en="Mean over all positions of KL(base model || model) of the next token's distribution.",
        zh="各位置上下一个 token 分布的 KL(基座模型 || 本模型) 的平均值。",
    ),
    headline=50,
)
POSITIONS = 64
"""Positions of one sample that are kept at most, the first ones."""
NUMBERS = 2**21
"""Numbers of one sample that are kept at most: 4 MB, or 13 positions of a vocabulary of 152 thousand."""


@collector
def collect_logits(model: Model, samples: Samples, is_compared: bool) -> Iterator[Finish]:
    """Compute the logits at the samples' own answers, for runs that are compared; after the timed run."""
    answer_logits = model.architecture.runner.answer_logits

    def finish(run: Run) -> Run:
        if answer_logits is None or not is_compared:
            return run
        logits = [None if sample.too_short else answer_logits(model, sample) for sample in samples]
        predictions = [
            prediction if answer is None else replace(prediction, logits=compact(answer))
            for prediction, answer in zip(run.predictions, logits, strict=True)
        ]
        return replace(run, predictions=predictions)

    yield finish


@hookimpl
def sottovoce_evaluate(run: Run, baseline: Run | None) -> Iterable[Metric]:
    """Compare with the baseline, when there is one beside this run and both have the logits of some sample."""
    if baseline is None or baseline is run:
        return []
    pairs = list(zip(run.predictions, baseline.predictions, strict=True))
    both = [
        (model.logits, base.logits) for model, base in pairs if model.logits is not None and base.logits is not None
    ]
    if not both:
        return []
    metric = divergence(both)
    shares = iter(metric.by_sample)
    counted = [model.logits is not None and base.logits is not None for model, base in pairs]
    return [replace(metric, by_sample=tuple(next(shares) if is_counted else None for is_counted in counted))]


def compact(logits: Tensor) -> NDArray[np.float16]:
    """Return the first positions of ``logits`` for :attr:`~sottovoce.samples.Prediction.logits`.

    At most 64 positions are kept, and of a large vocabulary only as many as make two million numbers: all runs hold
    theirs until they are compared. Every row is moved so that its largest number is 0, where float16 is finest; what
    that loses is about 1e-6 nats.

    Args:
        logits: ``[positions, vocabulary]``, before the softmax.

    Returns:
        ``[kept positions, vocabulary]``.
    """
    import numpy as np

    count = min(POSITIONS, max(1, NUMBERS // logits.shape[-1]))
    kept = logits[:count].detach().float()
    moved = kept - kept.amax(dim=-1, keepdim=True)
    return np.asarray(moved.clamp(min=-60000).half().cpu().numpy())


def divergence(pairs: Iterable[tuple[NDArray[np.float16], NDArray[np.float16]]]) -> Metric:
    """Return ``divergence``, the mean over all positions of KL(baseline || model), in nats per token.

    Args:
        pairs: The model's logits and the baseline's for each sample, both ``[positions, vocabulary]``.

    Returns:
        The metric; without a value if a logit is NaN, with the number of such positions in its details.
    """
    import numpy as np

    # One sample at a time: as float64 all of them would take four times the memory.
    every = [_kl(base, model) for model, base in pairs]
    values = np.concatenate([np.zeros(0), *every])
    broken = int((~np.isfinite(values)).sum())
    value = float(values.mean()) if len(values) and not broken else None
    details = {"positions": len(values), "largest": None if value is None else round(float(values.max()), 6)}
    return DIVERGENCE.measured(
        value,
        details=details | ({"not_finite": broken} if broken else {}),
        by_sample=[] if broken else [(float(nats.sum()), float(len(nats))) for nats in every],
    )


def _kl(before: NDArray[np.float16], after: NDArray[np.float16]) -> NDArray[np.float64]:
    """Return the divergence at every position, ``[positions]``."""
    import numpy as np

    log_before, log_after = _log_softmax(before), _log_softmax(after)
    divergences: NDArray[np.float64] = (np.exp(log_before) * (log_before - log_after)).sum(axis=-1)
    return np.maximum(divergences, 0.0, out=divergences)  # rounding can make it slightly negative


def _log_softmax(logits: NDArray[np.float16]) -> NDArray[np.float64]:
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    normalized: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return normalized
