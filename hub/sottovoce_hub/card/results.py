"""What was measured, in the two forms that the Hugging Face Hub reads: ``model-index`` and ``.eval_results``."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from sottovoce_hub.card.facts import Evaluation
from sottovoce_hub.card.identifiers import slug
from sottovoce_hub.card.markdown import plain
from sottovoce_hub.card.report import Report
from sottovoce_hub.card.scores import is_quality, main_score
from sottovoce_hub.card.wording import Wording


def model_index(report: Report, repository: str) -> list[dict[str, Any]]:
    """The card's ``model-index``; empty where no quality was measured."""
    from huggingface_hub.repocard_data import eval_results_to_model_index

    results = [result for evaluation in report.evaluations for result in _results(report, evaluation)]
    if not results:
        return []
    return list(eval_results_to_model_index(repository.rpartition("/")[2], results))


def _results(report: Report, evaluation: Evaluation) -> list[Any]:
    from huggingface_hub import EvalResult

    samples, dataset, wording = evaluation.samples, evaluation.dataset, Wording("en")
    name = plain(dataset.id if dataset else samples.name or "") or "samples"
    kind = name if dataset else slug(name) or "samples"
    facts = {"samples": samples.count, "audio_seconds": samples.audio_seconds, "sha256": samples.sha256}
    return [
        EvalResult(
            task_type=slug(report.card.pipeline_tag) or "other",
            # Two sets of samples may have one name; the Hub tells results apart by these three.
            dataset_type=kind if dataset or not _has_namesake(report, evaluation) else f"{kind}-{samples.sha256}"[:60],
            dataset_name=name,
            dataset_split=dataset.split if dataset else None,
            dataset_revision=dataset.revision if dataset else None,
            dataset_args={key: value for key, value in facts.items() if value is not None},
            metric_type=plain(metric),
            metric_value=measure.value,
            metric_name=f"{html.unescape(wording.metric(metric))}, {plain(measure.unit)}".rstrip(", "),
        )
        for metric, measure in evaluation.metrics.items()
        if is_quality(metric) and measure.value is not None and plain(metric)
    ]


def _has_namesake(report: Report, evaluation: Evaluation) -> bool:
    return any(
        other is not evaluation and other.dataset is None and other.samples.name == evaluation.samples.name
        for other in report.evaluations
    )


def eval_results(report: Mapping[str, Any], is_benchmark: Callable[[str], bool]) -> bytes | None:
    """The content of ``.eval_results/sottovoce.yaml``, for the leaderboards of registered benchmarks.

    Args:
        report: A ``compression.json``.
        is_benchmark: Whether the Hub keeps a leaderboard for a dataset.

    Returns:
        YAML; ``None`` where nothing was measured on such a dataset.

    Raises:
        PublishError: The report is not what Sottovoce writes.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    facts = Report.read(report)
    entries = []
    for evaluation in facts.evaluations:
        dataset = evaluation.dataset
        score = main_score(facts.model_copy(update={"evaluations": (evaluation,)}))
        if dataset is None or score is None or not is_benchmark(dataset.id):
            continue
        unit = f" in {score.measure.unit}" if score.measure.unit else ""
        entries.append(
            EvalResultEntry(
                dataset_id=dataset.id,
                task_id=dataset.task or "default",
                value=score.measure.value,
                dataset_revision=dataset.revision,
                date=evaluation.date or None,
                notes=f"{score.metric}{unit} on {evaluation.samples.count} samples, measured by sottovoce evaluate",
            )
        )
    if not entries:
        return None
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True).encode()
