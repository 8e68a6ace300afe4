"""Distances of words' times from the true ones, and from the baseline's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SamplesError
from sottovoce.metrics.kinds import MetricKind
from sottovoce.report import Metric
from sottovoce.report.number_format import counted
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.samples import Prediction, Run, Samples

    Times = NDArray[np.float64]
    """Start and end of each word, ``[words, 2]`` in seconds."""

BOUNDARY_SHIFT = MetricKind(
    name="boundary_shift_ms",
    unit="ms",
    better="lower",
    label=Text(en="mean boundary shift from the reference", zh="相对参考标注的平均边界偏移"),
    description=Text(
        en="Accumulated average shift: mean distance of all starts and ends of words from the reference's.",
        zh="累计平均偏移：所有词的起止时间与参考标注之间的平均距离。",
    ),
    headline=30,
)
BOUNDARY_AGREEMENT = MetricKind(
    name="boundary_agreement",
    unit="%",
    kind="against_baseline",
    better="higher",
    label=Text(en="word boundaries equal to the base model's", zh="与基座模型一致的词边界"),
    description=Text(
        en="Share of the starts and ends of words that equal the base model's.",
        zh="与基座模型相同的词起止时间所占比例。",
    ),
)
SHIFT_FROM_BASELINE = MetricKind(
    name="boundary_shift_from_baseline_ms",
    unit="ms",
    kind="against_baseline",
    better="lower",
    label=Text(en="mean boundary shift from the base model", zh="相对基座模型的平均边界偏移"),
    description=Text(
        en="Mean distance of all starts and ends of words from the base model's.",
        zh="所有词的起止时间与基座模型之间的平均距离。",
    ),
)
LARGEST_SHIFT = MetricKind(
    name="boundary_shift_max_ms",
    unit="ms",
    kind="against_baseline",
    better="lower",
    label=Text(en="largest boundary shift from the base model", zh="相对基座模型的最大边界偏移"),
    description=Text(
        en="Largest distance of a start or an end of a word from the base model's.",
        zh="词的起止时间与基座模型之间的最大距离。",
    ),
)
ZERO_DURATION = MetricKind(
    name="zero_duration_words",
    unit="words",
    better="lower",
    label=Text(en="words of zero duration", zh="时长为零的词"),
    description=Text(en="Words that begin and end at the same time.", zh="起止时间相同的词数。"),
)
WORDS_OFF = MetricKind(
    name="words_off_by_1s",
    unit="words",
    better="lower",
    label=Text(en="words off by more than 1 s", zh="偏差超过 1 秒的词"),
    description=Text(
        en="Words with a boundary more than a second from the reference's, or from the base model's without one.",
        zh="与参考标注（没有时与基座模型）的边界相差超过 1 秒的词数。",
    ),
)

TOLERANCE = 0.08
"""Seconds that a boundary may be off without anybody noticing; also the finest step of common aligners."""
SAME = 0.0005
"""Seconds within which two boundaries are one: times are rounded to milliseconds."""


def measure(samples: Samples, run: Run, baseline: Run | None) -> list[Metric]:
    """Compare the boundaries with ``words`` of the samples, when all have them, and with the baseline's.

    Raises:
        SamplesError: There is neither to compare with, or they are of other words than the model aligned.
    """
    everything = samples
    samples, run, baseline, silent = _heard(samples, run, baseline)
    times = [_times(prediction.timestamps) for prediction in run.predictions]
    references = _references(samples)
    if references is None and baseline is None:
        without = [sample.key for sample in samples if not sample.words]
        raise SamplesError(
            f"{samples.title}: {counted(len(without), 'sample has', 'samples have')} no 'words' to "
            f"compare with, such as {without[0]!r}; "
            "give the manifest words with times, or --baseline"
        )
    metrics = [zero_duration_words(times, silent)]
    if references is not None:
        _check_counts(samples, times, references, "'words'")
        metrics += [boundary_shift(times, references), words_off(times, references, "references")]
    if baseline is not None and baseline is not run:
        before = [_times(prediction.timestamps) for prediction in baseline.predictions]
        _check_counts(samples, times, before, "the baseline")
        metrics += agreement(times, before)
        if references is None:
            metrics.append(words_off(times, before, "baseline"))
    heard = {id(sample) for sample in samples}
    return [_of_all(metric, [id(sample) in heard for sample in everything]) for metric in metrics]


def _of_all(metric: Metric, heard: Sequence[bool]) -> Metric:
    """Return a metric with ``None`` in place of the samples that were not heard."""
    if not metric.by_sample:
        return metric
    shares = iter(metric.by_sample)
    return replace(metric, by_sample=tuple(next(shares) if is_heard else None for is_heard in heard))


def boundary_shift(times: Sequence[Times], references: Sequence[Times]) -> Metric:
    """Return ``boundary_shift_ms``, the accumulated average shift: the mean distance of all starts and ends."""
    import numpy as np

    shifts = _shifts(times, references)
    details: dict[str, Any] = {"boundaries": len(shifts)}
    if len(shifts):
        details |= {
            "median_ms": _rounded(1000 * np.median(shifts)),
            "p95_ms": _rounded(1000 * np.percentile(shifts, 95)),
            "within_80_ms": _rounded(100 * np.mean(shifts <= TOLERANCE + SAME)),
        }
    value = 1000 * float(shifts.mean()) if len(shifts) else None
    return BOUNDARY_SHIFT.measured(value, details=details, by_sample=_by_sample(times, references))


def agreement(times: Sequence[Times], before: Sequence[Times]) -> list[Metric]:
    """Return the share of boundaries that are the baseline's, and the mean and largest distance of all."""
    shifts = _shifts(times, before)
    identical = int((shifts < SAME).sum())
    share = mean = largest = None
    details: dict[str, Any] = {"identical": identical, "boundaries": len(shifts)}
    if count := len(shifts):
        details["within_80_ms"] = _rounded(100 * float((shifts <= TOLERANCE + SAME).mean()))
        share, mean, largest = 100 * identical / count, 1000 * float(shifts.mean()), 1000 * float(shifts.max())
    return [
        BOUNDARY_AGREEMENT.measured(share, details=details),
        SHIFT_FROM_BASELINE.measured(mean, by_sample=_by_sample(times, before)),
        LARGEST_SHIFT.measured(largest),
    ]


def zero_duration_words(times: Sequence[Times], silent: int = 0) -> Metric:
    """Count the words that begin and end at the same time, and the samples without a hypothesis."""
    count = sum(int((spans[:, 1] - spans[:, 0] < SAME).sum()) for spans in times)
    details = {"words": sum(map(len, times))} | ({"without_hypothesis": silent} if silent else {})
    return ZERO_DURATION.measured(count, details=details)


def words_off(times: Sequence[Times], others: Sequence[Times], against: str) -> Metric:
    """Return ``words_off_by_1s``, the number of words with a boundary more than a second away."""
    import numpy as np

    largest = [np.abs(spans - other).max(axis=1, initial=0) for spans, other in zip(times, others, strict=True)]
    count = sum(int((shifts > 1 + SAME).sum()) for shifts in largest)
    details = {"words": sum(map(len, times)), "against": against}
    return WORDS_OFF.measured(count, details=details)


def _shifts(times: Sequence[Times], others: Sequence[Times]) -> NDArray[np.float64]:
    import numpy as np

    pairs = zip(times, others, strict=True)
    return np.concatenate([np.zeros(0), *(np.abs(spans - other).ravel() for spans, other in pairs)])


def _by_sample(times: Sequence[Times], others: Sequence[Times]) -> list[tuple[float, float]]:
    """Return the sum of the distances of each sample in ms, and their number."""
    import numpy as np

    pairs = zip(times, others, strict=True)
    return [(1000 * float(np.abs(spans - other).sum()), float(spans.size)) for spans, other in pairs]


def _times(pairs: Sequence[Sequence[float]]) -> Times:
    import numpy as np

    return np.asarray(pairs, dtype=np.float64).reshape(-1, 2)


def _heard(samples: Samples, run: Run, baseline: Run | None) -> tuple[Samples, Run, Run | None, int]:
    """Leave out the samples that either model has no hypothesis of, and count them: they have no times to compare."""
    runs = [run] if baseline is None or baseline is run else [run, baseline]
    heard = [number for number in range(len(samples)) if all(map(_is_heard, (run.predictions[number] for run in runs)))]
    if len(heard) == len(samples):
        return samples, run, baseline, 0
    shorter = [replace(run, predictions=[run.predictions[number] for number in heard]) for run in runs]
    shorter_samples = samples.part(tuple(samples[number] for number in heard))
    return shorter_samples, shorter[0], shorter[-1] if baseline is not None else None, len(samples) - len(heard)


def _is_heard(prediction: Prediction) -> bool:
    return prediction.text is not None or bool(prediction.timestamps)


def _references(samples: Samples) -> list[Times] | None:
    """Return the samples' own times; ``None`` when not every sample has them."""
    if not all(sample.words for sample in samples):
        return None
    return [_times([_word(samples, sample.key, word) for word in sample.words]) for sample in samples]


def _word(samples: Samples, key: str, word: Mapping[str, Any]) -> tuple[float, float]:
    try:
        start, end = float(word["start"]), float(word["end"])
    except (KeyError, TypeError, ValueError, OverflowError):
        start = end = math.nan
    if not math.isfinite(start) or not math.isfinite(end):
        raise SamplesError(
            f"{samples.title}: sample {key!r}: {word!r} among 'words' needs a text, and start and end in seconds"
        )
    return start, end


def _check_counts(samples: Samples, times: Sequence[Times], others: Sequence[Times], what: str) -> None:
    for sample, spans, other in zip(samples, times, others, strict=True):
        if len(spans) != len(other):
            raise SamplesError(
                f"{samples.title}: sample {sample.key!r}: the model aligned {counted(len(spans), 'word')}, "
                f"{what} has {len(other)}; compare the same text, split into the same words"
            )


def _rounded(number: Any) -> float:
    return round(float(number), 3)
