"""The metric that speaks for a model's quality, chosen by what metrics declare."""

from __future__ import annotations

from collections.abc import Iterable

from sottovoce.report import Metric


def headline(metrics: Iterable[Metric], language: str = "") -> Metric | None:
    """Return the metric with the first rank, and in a language of its own before all others; ``None`` if none has one.

    Args:
        metrics: Measured metrics.
        language: Code of the language that the model is mostly for.
    """
    ranked = [metric for metric in metrics if metric.headline is not None and metric.value is not None]
    return min(ranked, key=lambda metric: (language not in metric.headline_languages, metric.headline), default=None)


def deciding(metrics: Iterable[Metric], language: str = "") -> Metric | None:
    """Return the metric by which models are ranked: one of their own quality before one against the base model.

    A metric without a rank may speak where no other does, if it has a better direction.

    Args:
        metrics: Measured metrics.
        language: Code of the language that the models are mostly for.
    """
    rated = [metric for metric in metrics if metric.better is not None and metric.value is not None]
    for kind in ("quality", "against_baseline"):
        of_kind = [metric for metric in rated if metric.kind == kind]
        if of_kind:
            return headline(of_kind, language) or of_kind[0]
    return None
