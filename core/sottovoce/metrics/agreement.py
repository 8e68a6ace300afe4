"""Agreement of a compressed model's tokens with its baseline's, whatever the reference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sottovoce.metrics.kinds import MetricKind
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.report import Metric
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.samples import Run

TOKEN_AGREEMENT = MetricKind(
    name="token_agreement",
    unit="%",
    kind="against_baseline",
    better="higher",
    label=Text(en="token agreement with the base model", zh="与基座模型的 token 一致率"),
    description=Text(
        en="100 minus the edit distance between the tokens of both models, as a share of the longer sequence.",
        zh="100 减去两个模型 token 序列的编辑距离占较长序列的百分比。",
    ),
)


@hookimpl
def sottovoce_evaluate(run: Run, baseline: Run | None) -> Iterable[Metric]:
    """Compare the tokens with the baseline's, when there is one beside this run and the family predicts tokens."""
    if baseline is None or baseline is run or not any(prediction.tokens for prediction in baseline.predictions):
        return []
    return [token_agreement(run, baseline)]


def token_agreement(run: Run, baseline: Run) -> Metric:
    """Return 100 minus the edit distance of both token sequences, over the longer of them, summed over the set.

    ``identical`` in the details is the number of utterances that agree in every token.
    """
    from rapidfuzz.distance import Levenshtein

    distance = total = identical = 0
    shares = []
    for prediction, reference in zip(run.predictions, baseline.predictions, strict=True):
        edits = Levenshtein.distance(prediction.tokens, reference.tokens)
        longer = max(len(prediction.tokens), len(reference.tokens))
        distance, total = distance + edits, total + longer
        identical += prediction.tokens == reference.tokens
        shares.append((100.0 * (longer - edits), float(longer)))
    value = 100 * (1 - distance / total) if total else None
    details = {"identical": identical, "utterances": len(run.predictions)}
    return TOKEN_AGREEMENT.measured(value, details=details, by_sample=shares)
