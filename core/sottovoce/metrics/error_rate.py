"""Character and word error rate of a transcription, with jiwer."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from sottovoce.errors import SamplesError
from sottovoce.hookspecs import hookimpl
from sottovoce.report import Metric

if TYPE_CHECKING:
    import jiwer

    from sottovoce.architecture import Architecture
    from sottovoce.samples import Run, Samples

TASK = "transcription"

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff"


@hookimpl
def sottovoce_evaluate(architecture: Architecture, samples: Samples, run: Run) -> Iterable[Metric]:
    """Count the errors of a family whose task is transcription."""
    if architecture.task != TASK:
        return []
    if missing := [sample.key for sample in samples if sample.text is None]:
        raise SamplesError(
            f"{samples.path}: {len(missing)} samples have no 'target' to compare with, such as {missing[0]!r}"
        )
    language = architecture.card.languages[0] if architecture.card.languages else "en"
    languages = [sample.language or language for sample in samples]
    references = [sample.text or "" for sample in samples]
    hypotheses = [prediction.text for prediction in run.predictions]
    return error_rates(references, hypotheses, languages)


def error_rates(references: Sequence[str], hypotheses: Sequence[str | None], languages: Sequence[str]) -> list[Metric]:
    """``cer`` and ``wer`` in percent over a whole set, normalized (see :func:`normalize`).

    An utterance without a hypothesis counts as all deletions. A word is a run of letters between spaces, or a single
    Chinese character or kana, which no space divides.

    Args:
        references: What was said.
        hypotheses: What was recognized; ``None`` where nothing was.
        languages: ISO 639-1 code of each utterance.
    """
    import jiwer

    true = [normalize(text, language) for text, language in zip(references, languages, strict=True)]
    said = [normalize(text or "", language) for text, language in zip(hypotheses, languages, strict=True)]
    silent = sum(not text for text in said)
    characters = jiwer.process_characters([_unspaced(text) for text in true], [_unspaced(text) for text in said])
    words = jiwer.process_words([_words(text) for text in true], [_words(text) for text in said])
    return [_metric("cer", characters, silent), _metric("wer", words, silent)]


def normalize(text: str, language: str) -> str:
    """Make two writings of the same words the same.

    Width and compatibility forms by NFKC, lower case, no punctuation, single spaces. In Chinese also traditional to
    simplified characters and numbers as they are spoken (``5`` becomes ``五``), by wetext.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    if language == "zh":
        text = _chinese()(text)
    text = "".join(" " if unicodedata.category(char)[0] in "PSZC" and char not in "'" else char for char in text)
    return " ".join(text.split())


@functools.cache
def _chinese() -> Callable[[str], str]:
    from wetext import Normalizer

    normalizer = Normalizer(lang="zh", operator="tn", traditional_to_simple=True, full_to_half=True)
    return lambda text: str(normalizer.normalize(text)) if text.strip() else ""


def _unspaced(text: str) -> str:
    """Without the spaces beside Chinese characters, which stand for nothing."""
    return re.sub(rf"(?<=[{_CJK}]) +| +(?=[{_CJK}])", "", text)


def _words(text: str) -> str:
    return " ".join(re.sub(rf"([{_CJK}])", r" \1 ", text).split())


def _metric(name: str, counts: jiwer.CharacterOutput | jiwer.WordOutput, silent: int) -> Metric:
    errors = counts.substitutions + counts.deletions + counts.insertions
    total = counts.hits + counts.substitutions + counts.deletions
    return Metric(
        name=name,
        value=100 * errors / total if total else None,
        unit="%",
        details={
            "substitutions": counts.substitutions,
            "deletions": counts.deletions,
            "insertions": counts.insertions,
            "reference": total,
            "without_hypothesis": silent,
        },
    )
