"""Metadata at the head of a card, by which the hubs list and find a model."""

from __future__ import annotations

import re
from typing import Any

import yaml

from sottovoce.report import CompressionReport
from sottovoce_hub.card.headline import is_quality
from sottovoce_hub.card.identifiers import MODELSCOPE_LICENSES, MODELSCOPE_TASKS, TASKS, language_code, license_id, slug
from sottovoce_hub.card.markdown import plain
from sottovoce_hub.card.results import model_index
from sottovoce_hub.card.urls import page

_NOTICES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE")


def front_matter(report: CompressionReport, repository: str, hub: str) -> str:
    """Return the YAML at the head of the card, between its two lines of hyphens."""
    metadata = _for_modelscope(report) if hub == "modelscope" else _for_hugging_face(report, repository)
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=10**6)}---\n"


def _for_hugging_face(report: CompressionReport, repository: str) -> dict[str, Any]:
    task = report.family.pipeline_tag
    metadata: dict[str, Any] = _license(report) | {"language": languages(report), "library_name": _library(report)}
    if task in TASKS:
        metadata["pipeline_tag"] = task
    metadata |= _base(report, "hf") | {"tags": tags(report)}
    if index := model_index(report, repository):
        metadata |= {"metrics": _metrics(report), "model-index": index}
    return {key: value for key, value in metadata.items() if value}


def _for_modelscope(report: CompressionReport) -> dict[str, Any]:
    """Return the keys of ModelScope's documentation of cards, with its words for licences and tasks."""
    metadata = _license(report)
    if "license" in metadata:
        metadata["license"] = MODELSCOPE_LICENSES.get(metadata["license"], metadata["license"])
    task = report.family.pipeline_tag
    metadata |= {
        "language": languages(report),
        "frameworks": ["pytorch"],
        "tasks": [MODELSCOPE_TASKS.get(task, task)] if task in TASKS else [],
        "library_name": _library(report),
        **_base(report, "modelscope"),
        "metrics": _metrics(report),
        "tags": tags(report),
    }
    return {key: value for key, value in metadata.items() if value}


def languages(report: CompressionReport) -> list[str]:
    """Return the codes of the languages that the base model's card states, or else the family's."""
    for stated in (report.source.languages, report.family.languages):
        if codes := [code for code in map(language_code, stated) if code]:
            return list(dict.fromkeys(codes))
    return []


def _library(report: CompressionReport) -> str:
    return slug(report.family.library_name)


def _metrics(report: CompressionReport) -> list[str]:
    metrics = (metric for evaluation in report.evaluations for metric in evaluation.metrics.values())
    names = [re.sub(r"[^a-z0-9]+", "_", metric.name.lower()).strip("_") for metric in metrics if is_quality(metric)]
    return [name for name in dict.fromkeys(names) if name]


def _license(report: CompressionReport) -> dict[str, Any]:
    stated = report.source.license
    if stated is None or not plain(stated.id):
        return {}
    if (known := license_id(stated.id)) and known != "other":
        return {"license": known}
    name = slug(stated.name or (stated.id if stated.id.lower() != "other" else "")) or "see-the-base-model"
    link = license_link(report)
    return {"license": "other", "license_name": name} | ({"license_link": link} if link else {})


def license_link(report: CompressionReport) -> str | None:
    """Return the address of the licence: the base card's, the copy beside the weights, or the base's page."""
    stated, source = report.source.license, report.source
    link = plain(stated.link) if stated is not None and stated.link else None
    if link and (link.startswith(("https://", "http://")) or link in report.files):
        return link
    copy = next((name for name in _NOTICES if name in report.files), None)
    if copy is not None:
        return copy
    return page(source.repository, source.hub, source.revision) if source.repository and source.hub else None


def _base(report: CompressionReport, hub: str) -> dict[str, Any]:
    # An id of the other hub would name another model here, or none.
    if report.source.hub != hub or report.source.repository is None:
        return {}
    relation = {"base_model_relation": _relation(report)} if report.steps else {}
    return {"base_model": report.source.repository} | relation


def _relation(report: CompressionReport) -> str:
    """Return ``quantized``, or ``finetune`` for what was trained again.

    The hubs know no word for a model that is only pruned; ``finetune`` is what they infer for other weights.
    """
    narrow = any(bits < 16 for step in report.steps for bits in step.by_width)
    trained = report.step_names & {"distill", "fine_tune"}
    return "quantized" if (narrow or "quantize" in report.step_names) and not trained else "finetune"


def tags(report: CompressionReport) -> list[str]:
    """Return words to find the model by: the family, and what was done to it."""
    tags = ["sottovoce", slug(report.architecture)]
    if report.family.pipeline_tag and report.family.pipeline_tag not in TASKS:
        tags.append(slug(report.family.pipeline_tag))
    tags += [slug(tag) for step in report.steps for tag in step.tags]
    return list(dict.fromkeys(filter(None, tags)))
