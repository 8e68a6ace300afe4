"""A look at a card's metadata before a hub sees it; the hubs' own checks need a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from sottovoce.report import REPOSITORY
from sottovoce_hub.card.identifiers import LICENSES, MODELSCOPE_LICENSES, RELATIONS, TASKS, language_code

_WORDS = ("license", "license_name", "license_link", "library_name", "pipeline_tag", "base_model_relation")
_LISTS = ("language", "tags", "metrics", "tasks", "frameworks", "datasets")


def check_metadata(text: str, hub: str = "hf") -> list[str]:
    """Say what is wrong with the metadata of a card.

    Args:
        text: The card.
        hub: ``hf`` or ``modelscope``, where it is to be published.

    Returns:
        The problems, each a line; none where it is well.
    """
    try:
        found = _parse(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError) as error:
        return [f"the metadata cannot be read: {' '.join(str(error).split())}"]
    if not found:
        return ["there is no metadata between two lines of --- at the head of the card"]
    return [*_shapes(found), *_license(found, hub), *_names(found), *_round_trip(text, found)]


def _parse(text: str) -> dict[str, Any]:
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    block = REGEX_YAML_BLOCK.search(text)
    found = yaml.safe_load(block[2]) if block else {}
    if not isinstance(found, dict):
        raise ValueError(f"it must be a mapping, not {type(found).__name__}")
    return found


def _shapes(found: Mapping[str, Any]) -> Iterator[str]:
    for key in _WORDS:
        if key in found and not (isinstance(found[key], str) and found[key].strip()):
            yield f"{key} must be text"
    for key in _LISTS:
        if key in found and not _are_words(found[key]):
            yield f"{key} must be a list of words"
    if "sottovoce" not in _listed(found.get("tags")):
        yield "tags must have sottovoce among them"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each.strip() for each in value)


def _license(found: Mapping[str, Any], hub: str) -> Iterator[str]:
    known = LICENSES | (frozenset(MODELSCOPE_LICENSES.values()) if hub == "modelscope" else frozenset())
    name = found.get("license")
    if isinstance(name, str) and name not in known:
        yield f"license {name!r} is none that the hub knows; write other, with license_name and license_link"
    if name == "other" and not found.get("license_name"):
        yield "license other needs a license_name"
    if "license_name" in found and name != "other":
        yield "license_name is for the license other"


def _names(found: Mapping[str, Any]) -> Iterator[str]:
    for each in _listed(found.get("language")):
        if not isinstance(each, str) or language_code(each) != each:
            yield f"language {each!r} is no ISO 639 code"
    task = found.get("pipeline_tag")
    if isinstance(task, str) and task not in TASKS:
        yield f"pipeline_tag {task!r} is none that the hub knows"
    for each in _listed(found.get("base_model")):
        if not isinstance(each, str) or not REPOSITORY.fullmatch(each):
            yield f"base_model {each!r} is no owner/name"
    relation = found.get("base_model_relation")
    if isinstance(relation, str) and relation not in RELATIONS:
        yield f"base_model_relation {relation!r} is none of {', '.join(sorted(RELATIONS))}"
    if relation is not None and "base_model" not in found:
        yield "base_model_relation needs a base_model"


def _round_trip(text: str, found: Mapping[str, Any]) -> Iterator[str]:
    """What the client makes of the card, and of what it makes of that."""
    from huggingface_hub import ModelCard

    try:
        card: Any = ModelCard(text)
        again: Any = ModelCard(str(card))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        yield f"model-index cannot be read: {' '.join(str(error).split())}"
        return
    if again.data.to_dict() != card.data.to_dict():
        yield "the metadata changes when the hub's client writes it again"
    results = card.data.eval_results or ()
    if "model-index" in found and not results:
        yield "model-index has no results"
    for result in results:
        if isinstance(result.metric_value, bool) or not isinstance(result.metric_value, int | float):
            yield f"model-index: the value of {result.metric_type!r} is no number"
