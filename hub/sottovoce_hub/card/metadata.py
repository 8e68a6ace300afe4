"""The metadata at the head of a card, by which the hubs list and find a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from sottovoce_hub.card.identifiers import MODELSCOPE_LICENSES, MODELSCOPE_TASKS, TASKS, language_code, license_id, slug
from sottovoce_hub.card.markdown import plain
from sottovoce_hub.card.report import Report, Step
from sottovoce_hub.card.results import model_index
from sottovoce_hub.card.scores import is_quality
from sottovoce_hub.card.web import page

_NOTICES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE")


def front_matter(report: Report, repository: str, hub: str) -> str:
    """The YAML at the head of the card, between its two lines of hyphens."""
    found = _for_modelscope(report) if hub == "modelscope" else _for_hugging_face(report, repository)
    return f"---\n{yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=10**6)}---\n"


def _for_hugging_face(report: Report, repository: str) -> dict[str, Any]:
    task = report.card.pipeline_tag
    found: dict[str, Any] = _license(report) | {"language": languages(report), "library_name": _library(report)}
    if task in TASKS:
        found["pipeline_tag"] = task
    found |= _base(report, "hf") | {"tags": list(tags(report))}
    if index := model_index(report, repository):
        found |= {"metrics": _metrics(report), "model-index": index}
    return {key: value for key, value in found.items() if value}


def _for_modelscope(report: Report) -> dict[str, Any]:
    """What ModelScope's documentation of cards names: its own words for licences and tasks, and ``frameworks``."""
    found = _license(report)
    if "license" in found:
        found["license"] = MODELSCOPE_LICENSES.get(found["license"], found["license"])
    task = report.card.pipeline_tag
    found |= {
        "language": languages(report),
        "frameworks": ["pytorch"],
        "tasks": [MODELSCOPE_TASKS.get(task, task)] if task in TASKS else [],
        "library_name": _library(report),
        **_base(report, "modelscope"),
        "metrics": _metrics(report),
        "tags": list(tags(report)),
    }
    return {key: value for key, value in found.items() if value}


def languages(report: Report) -> list[str]:
    """The codes of the languages that the base model's card states, or else the family's."""
    for stated in (report.source.languages, report.card.languages):
        if codes := [code for code in map(language_code, stated) if code]:
            return list(dict.fromkeys(codes))
    return []


def _library(report: Report) -> str:
    return slug(report.card.library_name)


def _metrics(report: Report) -> list[str]:
    found = (name for evaluation in report.evaluations for name in evaluation.metrics if is_quality(name))
    known = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in found]
    return [name for name in dict.fromkeys(known) if name]


def _license(report: Report) -> dict[str, Any]:
    stated = report.source.license
    if stated is None or not plain(stated.id):
        return {}
    if (known := license_id(stated.id)) and known != "other":
        return {"license": known}
    name = slug(stated.name or (stated.id if stated.id.lower() != "other" else "")) or "see-the-base-model"
    link = license_link(report)
    return {"license": "other", "license_name": name} | ({"license_link": link} if link else {})


def license_link(report: Report) -> str | None:
    """Where the licence's text is: what the base model's card says, the copy beside the weights, the base's page."""
    stated, source = report.source.license, report.source
    link = plain(stated.link) if stated is not None and stated.link else None
    if link and (link.startswith(("https://", "http://")) or link in report.files):
        return link
    copy = next((name for name in _NOTICES if name in report.files), None)
    if copy is not None:
        return copy
    return page(source.repository, source.hub, source.revision) if source.repository and source.hub else None


def _base(report: Report, hub: str) -> dict[str, Any]:
    # An id of the other hub would name another model here, or none.
    if report.source.hub != hub or report.source.repository is None:
        return {}
    relation = {"base_model_relation": _relation(report)} if report.steps else {}
    return {"base_model": report.source.repository} | relation


def _relation(report: Report) -> str:
    """``quantized``, or ``finetune`` for what was trained again.

    The hubs know no word for a model that is only pruned; ``finetune`` is what they infer for weights of its own.
    """
    return "quantized" if "quantize" in report.step_names and "distill" not in report.step_names else "finetune"


def tags(report: Report) -> Iterator[str]:
    """Words to find the model by: the family, and what was done to it."""
    found = ["sottovoce", slug(report.architecture)]
    if report.card.pipeline_tag and report.card.pipeline_tag not in TASKS:
        found.append(slug(report.card.pipeline_tag))
    for step in report.steps:
        found.extend(_step_tags(step, report))
    yield from dict.fromkeys(tag for tag in found if tag)


def _width_tag(step: Step, report: Report) -> str:
    """What the weights mostly are: ``int4``, ``int8`` or ``fp8``; nothing for a model that is mostly float."""
    counts = {width: sum(target.parameters for target in found) for width, found in step.by_width.items()}
    width = max(counts, key=counts.__getitem__, default=int(step.step.get("bits", 8)))
    stored = report.parameter_bits.after if report.parameter_bits else {}
    if stored and max(stored, key=stored.__getitem__) >= 16:
        return ""
    return "fp8" if step.step.get("type") == "float" else f"int{width}"


def _step_tags(step: Step, report: Report) -> list[str]:
    form: Mapping[str, Any] = step.step
    if step.name == "quantize":
        # Every quantized model is stored in the formats of compressed-tensors.
        width = _width_tag(step, report)
        method = str(form.get("method", "round_to_nearest"))
        named = [] if method == "round_to_nearest" else [method]
        both = ["w8a8"] if form.get("activations") in ("dynamic", "static") else []
        return [slug(tag) for tag in (width, *both, *named, "compressed-tensors")]
    if step.name == "prune_experts":
        return ["pruned", "expert-pruning", slug(str(form.get("saliency", "")))]
    return ["smoothquant"] if step.name == "smooth" else [slug(step.name)]
