"""Character and word error rate of a transcription, with jiwer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sottovoce.errors import SamplesError
from sottovoce.metrics.kinds import MetricKind
from sottovoce.metrics.normalization import normalize
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.report import Metric
from sottovoce.report.number_format import counted
from sottovoce.samples.languages import UNSPACED, language_code
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    import jiwer

    from sottovoce.architecture import Architecture
    from sottovoce.samples import Run, Samples

TASK = "transcription"
CER = MetricKind(
    name="cer",
    unit="%",
    better="lower",
    label=Text(en="character error rate (CER)", zh="字错误率（CER）"),
    description=Text(
        en="Wrong, missing and added characters over those of the reference, after normalization.",
        zh="规范化之后，替换、删除和插入的字符数占参考文本字符数的百分比。",
    ),
    headline=20,
    headline_languages=("zh", "yue", "ja", "ko", "th"),
)
WER = MetricKind(
    name="wer",
    unit="%",
    better="lower",
    label=Text(en="word error rate (WER)", zh="词错误率（WER）"),
    description=Text(
        en="Wrong, missing and added words over those of the reference, after normalization.",
        zh="规范化之后，替换、删除和插入的词数占参考文本词数的百分比。",
    ),
    headline=10,
)

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff"
"""Ranges of Chinese characters and kana, for a class of a regular expression."""


@hookimpl
def sottovoce_evaluate(architecture: Architecture, samples: Samples, run: Run) -> Iterable[Metric]:
    """Count the errors of a family whose task is transcription."""
    if architecture.task != TASK:
        return []
    require_references(samples)
    languages = languages_of(samples, architecture)
    references = [sample.text or "" for sample in samples]
    hypotheses = [prediction.text for prediction in run.predictions]
    return error_rates(references, hypotheses, languages)


def languages_of(samples: Samples, architecture: Architecture | None) -> list[str]:
    """Return the language that each sample's texts are normalized by: its own, or the first of the family's."""
    known = architecture.card.languages if architecture is not None else ()
    language = known[0] if known else "en"
    return [sample.language or language for sample in samples]


def require_references(samples: Samples) -> None:
    """Check that every sample says what was said.

    Raises:
        SamplesError: A sample has no text.
    """
    if missing := [sample.key for sample in samples if sample.text is None]:
        raise SamplesError(
            f"{samples.title}: {counted(len(missing), 'sample has', 'samples have')} no 'target' to compare with, "
            f"such as {missing[0]!r}"
        )


def error_rates(references: Sequence[str], hypotheses: Sequence[str | None], languages: Sequence[str]) -> list[Metric]:
    """Return ``cer`` and ``wer`` in percent over a set, normalized (see :mod:`~sottovoce.metrics.normalization`).

    There is no ``wer`` where all utterances are of languages that put no spaces between words, such as Chinese: it
    would be ``cer`` once more. An utterance without a hypothesis counts as all deletions. A word is a run of letters
    between spaces, or a single Chinese character or kana, which no space divides.

    Args:
        references: What was said.
        hypotheses: What was recognized; ``None`` where nothing was.
        languages: Name or code of the language of each utterance.

    Raises:
        SamplesError: A language is none.
    """
    import jiwer

    true = [normalize(text, language) for text, language in zip(references, languages, strict=True)]
    said = [normalize(text or "", language) for text, language in zip(hypotheses, languages, strict=True)]
    silent = sum(not text for text in said)
    characters = jiwer.process_characters([unspaced(text) for text in true], [unspaced(text) for text in said])
    metrics = [_metric(CER, characters, silent)]
    if not {language_code(language) for language in languages} <= UNSPACED:
        words = jiwer.process_words([_words(text) for text in true], [_words(text) for text in said])
        metrics.append(_metric(WER, words, silent))
    return metrics


def unspaced(text: str) -> str:
    """Remove the spaces beside Chinese characters, which mean nothing."""
    return re.sub(rf"(?<=[{CJK}]) +| +(?=[{CJK}])", "", text)


def _words(text: str) -> str:
    return " ".join(re.sub(rf"([{CJK}])", r" \1 ", text).split())


def _metric(kind: MetricKind, counts: jiwer.CharacterOutput | jiwer.WordOutput, silent: int) -> Metric:
    errors = counts.substitutions + counts.deletions + counts.insertions
    total = counts.hits + counts.substitutions + counts.deletions
    return kind.measured(
        100 * errors / total if total else None,
        details={
            "substitutions": counts.substitutions,
            "deletions": counts.deletions,
            "insertions": counts.insertions,
            "reference": total,
            "without_hypothesis": silent,
        },
        by_sample=[_share(chunks) for chunks in counts.alignments],
    )


def _share(chunks: Sequence[jiwer.AlignmentChunk]) -> tuple[float, float]:
    """Return a hundred times the errors of an utterance, and the length of its reference."""
    errors = sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in chunks
        if chunk.type != "equal"
    )
    return 100.0 * errors, float(sum(chunk.ref_end_idx - chunk.ref_start_idx for chunk in chunks))
