"""Measured numbers in the two forms that the Hugging Face Hub reads: ``model-index`` and ``.eval_results``."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from sottovoce.report import CompressionReport, EvaluationReport, number_format
from sottovoce_hub.card.headline import headline, is_quality
from sottovoce_hub.card.identifiers import slug
from sottovoce_hub.card.markdown import plain
from sottovoce_hub.card.reading import check
from sottovoce_hub.card.translations import Translations


def model_index(report: CompressionReport, repository: str) -> list[dict[str, Any]]:
    """Return the card's ``model-index``; empty where no quality was measured."""
    from huggingface_hub.repocard_data import eval_results_to_model_index

    results = [result for evaluation in report.evaluations for result in _results(report, evaluation)]
    if not results:
        return []
    return list(eval_results_to_model_index(repository.rpartition("/")[2], results))


def _results(report: CompressionReport, evaluation: EvaluationReport) -> list[Any]:
    from huggingface_hub import EvalResult

    samples, dataset, words = evaluation.samples, evaluation.dataset, Translations("en")
    name = plain(dataset.id if dataset else samples.name or "") or "samples"
    kind = name if dataset else slug(name) or "samples"
    facts = {"samples": samples.count, "audio_seconds": samples.audio_seconds, "sha256": samples.sha256}
    return [
        EvalResult(
            task_type=slug(report.family.pipeline_tag) or "other",
            # Two sets of samples may have one name; the Hub tells results apart by these three.
            dataset_type=kind if dataset or not _has_namesake(report, evaluation) else f"{kind}-{samples.sha256}"[:60],
            dataset_name=name,
            dataset_split=dataset.split if dataset else None,
            dataset_revision=dataset.revision if dataset else None,
            dataset_args={key: value for key, value in facts.items() if value is not None},
            metric_type=plain(metric.name),
            metric_value=_rounded(metric.value),
            metric_name=f"{html.unescape(words.metric(metric))}, {plain(metric.unit)}".rstrip(", "),
        )
        for metric in evaluation.metrics.values()
        if is_quality(metric) and metric.value is not None and plain(metric.name)
    ]


def _rounded(value: float) -> float:
    """Return a value with as many digits as a table shows: more would promise what was not measured."""
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def _has_namesake(report: CompressionReport, evaluation: EvaluationReport) -> bool:
    return any(
        other is not evaluation and other.dataset is None and other.samples.name == evaluation.samples.name
        for other in report.evaluations
    )


def eval_results(report: Mapping[str, Any], is_benchmark: Callable[[str], bool]) -> bytes | None:
    """Return the content of ``.eval_results/sottovoce.yaml``, for the leaderboards of registered benchmarks.

    Args:
        report: A ``compression.json``.
        is_benchmark: A function that returns true if the Hub keeps a leaderboard for a dataset.

    Returns:
        YAML; ``None`` where nothing was measured on such a dataset.

    Raises:
        PublishError: The report is not what Sottovoce writes.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    checked = check(report)
    entries = []
    for evaluation in checked.evaluations:
        dataset, first = evaluation.dataset, headline(replace(checked, evaluations=[evaluation]))
        if dataset is None or first is None or not is_benchmark(dataset.id):
            continue
        samples = number_format.counted(evaluation.samples.count, "sample")
        unit = f" in {first.metric.unit}" if first.metric.unit else ""
        entries.append(
            EvalResultEntry(
                dataset_id=dataset.id,
                task_id=dataset.task or "default",
                value=_rounded(first.metric.value or 0.0),
                dataset_revision=dataset.revision,
                date=evaluation.date or None,
                notes=f"{first.metric.name}{unit} on {samples}, by sottovoce evaluate",
            )
        )
    if not entries:
        return None
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True).encode()
