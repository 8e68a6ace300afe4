"""Samples whose output is not the same with every model, aligned with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sottovoce.metrics import error_rate
from sottovoce.metrics.alignment import Edit, align, comparable, count_edits, is_spaced
from sottovoce.report import Metric, Output, Utterance
from sottovoce.samples import Prediction, Sample, Samples
from sottovoce.text.plain_text import plain, shortened

LISTED = 200
"""Utterances that are listed at most."""
LONGEST = 2000
"""Characters of a text that are shown at most."""
_SAME = 0.0005
"""Seconds within which two times are one."""


class Utterances:
    """Predictions of several models on the same samples, side by side."""

    def __init__(
        self,
        samples: Samples,
        predictions: Mapping[str, Sequence[Prediction]],
        reference: str,
        metrics: Mapping[str, Metric | None],
        language: str | None,
    ) -> None:
        """Hold what is compared.

        Args:
            samples: The samples.
            predictions: By model, its prediction of every sample.
            reference: Model that the others are compared with.
            metrics: By model, the metric that decides, if it was measured.
            language: Language of samples that name none.
        """
        self._samples, self._predictions, self._reference = samples, predictions, reference
        self._metrics, self._language = metrics, language
        self._is_speech = any(metric is not None and _is_error_rate(metric) for metric in metrics.values())

    def changed(self, model: str) -> int:
        """Return the number of samples on which a model's output is not the reference model's."""
        return sum(self._differs(number, model) for number in range(len(self._samples)))

    def listed(self, limit: int = LISTED) -> tuple[tuple[Utterance, ...], int]:
        """Return the samples whose outputs differ most, and the number of further ones that differ."""
        others = [name for name in self._predictions if name != self._reference]
        numbers = [n for n in range(len(self._samples)) if any(self._differs(n, name) for name in others)]
        if not others:
            numbers = [n for n in range(len(self._samples)) if self._error(n, self._reference)]
        numbers.sort(key=lambda number: (-self._change(number), number))
        return tuple(map(self._utterance, numbers[:limit])), max(0, len(numbers) - limit)

    def of(self, number: int) -> Utterance:
        """Return one sample with the outputs of all models."""
        return self._utterance(number)

    def language_of(self, sample: Sample) -> str | None:
        """Return the language by which a sample's texts are normalized; ``None`` where they are not."""
        return (sample.language or self._language or "en") if self._is_speech else None

    def text(self, number: int, text: str | None) -> str:
        """Return a text as it is compared, without characters that hide others, and cut if it is very long."""
        return shortened(self._whole(number, text), LONGEST)

    def _whole(self, number: int, text: str | None) -> str:
        return plain(comparable(text or "", self.language_of(self._samples[number])))

    def target(self, number: int) -> str | None:
        """Return the reference text of a sample; that of the reference model where it has none."""
        sample, base = self._samples[number], self._predictions[self._reference][number]
        text = sample.text if sample.text is not None else base.text
        return None if text is None else self.text(number, text)

    def edits(self, number: int, model: str) -> tuple[Edit, ...]:
        """Return the operations that make a model's text of the reference."""
        target, sample = self.target(number), self._samples[number]
        if target is None:
            return ()
        text = self.text(number, self._predictions[model][number].text)
        return align(target, text, by_word=is_spaced(self.language_of(sample)))

    def error(self, number: int, model: str) -> float | None:
        """Return the deciding metric's value for one sample alone."""
        return self._error(number, model)

    def _error(self, number: int, model: str) -> float | None:
        metric = self._metrics.get(model)
        share = metric.by_sample[number] if metric is not None and metric.by_sample else None
        return round(share[0] / share[1], 4) if share is not None and share[1] > 0 else None

    def _differs(self, number: int, model: str) -> bool:
        base, other = self._predictions[self._reference][number], self._predictions[model][number]
        # What is shown of a long text can be the same.
        return self._whole(number, base.text) != self._whole(number, other.text) or _moved(base, other)

    def _change(self, number: int) -> float:
        """Return how much the errors differ; the least of it is how much the texts do."""
        base = self._error(number, self._reference) or 0.0
        errors = [abs((self._error(number, name) or 0.0) - base) for name in self._predictions]
        return max(errors) + 1e-6 * max(count_edits(self.edits(number, name)) for name in self._predictions)

    def _utterance(self, number: int) -> Utterance:
        sample = self._samples[number]
        base = self._predictions[self._reference][number]
        outputs = {name: self._output(number, name) for name in self._predictions}
        has_times = any(output.times for output in outputs.values())
        return Utterance(
            key=shortened(plain(sample.key), 200),
            reference=self.target(number),
            language=sample.language or self._language,
            modality=shortened(plain(sample.modality), 40),
            seconds=round(sample.seconds, 3),
            words=_words(sample, base) if has_times else (),
            times=_true_times(sample) if has_times else (),
            outputs=outputs,
        )

    def _output(self, number: int, model: str) -> Output:
        prediction = self._predictions[model][number]
        base = self._predictions[self._reference][number]
        moves = any(_moved(base, predictions[number]) for predictions in self._predictions.values())
        return Output(
            text=None if prediction.text is None else self.text(number, prediction.text),
            edits=self.edits(number, model),
            error=self._error(number, model),
            times=_times(prediction.timestamps) if moves else (),
            cut_off=prediction.cut_off,
        )


def _is_error_rate(metric: Metric) -> bool:
    return metric.name in (error_rate.CER.name, error_rate.WER.name)


def _moved(first: Prediction, second: Prediction) -> bool:
    """Return true if the same words have other times."""
    if len(first.timestamps) != len(second.timestamps):
        return False
    pairs = zip(first.timestamps, second.timestamps, strict=True)
    return any(abs(a - b) > _SAME for times, others in pairs for a, b in zip(times, others, strict=False))


def _times(pairs: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(pair[0]), 3), round(float(pair[1]), 3)) for pair in pairs[:LONGEST] if len(pair) >= 2)


def _true_times(sample: Sample) -> tuple[tuple[float, float], ...]:
    return _times([pair for word in sample.words if (pair := _pair(word))])


def _pair(word: Mapping[str, Any]) -> tuple[float, float] | None:
    try:
        return float(word["start"]), float(word["end"])
    except (KeyError, TypeError, ValueError):
        return None


def _words(sample: Sample, prediction: Prediction) -> tuple[str, ...]:
    """Return the words that the times are of, as far as they are known: the manifest's, or the tokens."""
    words = [str(word.get("text", "")) for word in sample.words] or list(prediction.tokens)
    fits = len(words) == len(prediction.timestamps)
    return tuple(shortened(plain(word), 60) for word in words[:LONGEST]) if fits else ()
