"""Check of a card's metadata before a hub sees it; the hubs' own checks need a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from sottovoce.report import REPOSITORY
from sottovoce_hub.card.identifiers import LICENSES, MODELSCOPE_LICENSES, RELATIONS, TASKS, language_code

_WORDS = ("license", "license_name", "license_link", "library_name", "pipeline_tag", "base_model_relation")
_LISTS = ("language", "tags", "metrics", "tasks", "frameworks", "datasets")


def check_metadata(text: str, hub: str = "hf") -> list[str]:
    """Return the problems of a card's metadata.

    Args:
        text: The card.
        hub: ``hf`` or ``modelscope``, where it is to be published.

    Returns:
        The problems, a line each; none where all is well.
    """
    try:
        metadata = _parse(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError) as error:
        return [f"the metadata cannot be read: {' '.join(str(error).split())}"]
    if not metadata:
        return ["there is no metadata between two lines of --- at the head of the card"]
    return [*_shapes(metadata), *_license(metadata, hub), *_names(metadata), *_round_trip(text, metadata)]


def _parse(text: str) -> dict[str, Any]:
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    block = REGEX_YAML_BLOCK.search(text)
    metadata = yaml.safe_load(block[2]) if block else {}
    if not isinstance(metadata, dict):
        raise ValueError(f"it must be a mapping, not {type(metadata).__name__}")
    return metadata


def _shapes(metadata: Mapping[str, Any]) -> Iterator[str]:
    for key in _WORDS:
        if key in metadata and not (isinstance(metadata[key], str) and metadata[key].strip()):
            yield f"{key} must be text"
    for key in _LISTS:
        if key in metadata and not _are_words(metadata[key]):
            yield f"{key} must be a list of words"
    if "sottovoce" not in _listed(metadata.get("tags")):
        yield "tags must have sottovoce among them"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word.strip() for word in value)


def _license(metadata: Mapping[str, Any], hub: str) -> Iterator[str]:
    known = LICENSES | (frozenset(MODELSCOPE_LICENSES.values()) if hub == "modelscope" else frozenset())
    name = metadata.get("license")
    if isinstance(name, str) and name not in known:
        yield f"license {name!r} is not one that the hub knows; write other, with license_name and license_link"
    if name == "other" and not metadata.get("license_name"):
        yield "license other needs a license_name"
    if "license_name" in metadata and name != "other":
        yield "license_name is for the license other"


def _names(metadata: Mapping[str, Any]) -> Iterator[str]:
    for language in _listed(metadata.get("language")):
        if not isinstance(language, str) or language_code(language) != language:
            yield f"language {language!r} is not an ISO 639 code"
    task = metadata.get("pipeline_tag")
    if isinstance(task, str) and task not in TASKS:
        yield f"pipeline_tag {task!r} is not one that the hub knows"
    for base in _listed(metadata.get("base_model")):
        if not isinstance(base, str) or not REPOSITORY.fullmatch(base):
            yield f"base_model {base!r} is not owner/name"
    relation = metadata.get("base_model_relation")
    if isinstance(relation, str) and relation not in RELATIONS:
        yield f"base_model_relation {relation!r} is not one of {', '.join(sorted(RELATIONS))}"
    if relation is not None and "base_model" not in metadata:
        yield "base_model_relation needs a base_model"


def _round_trip(text: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems that the client has with the card, or with the card as it writes it again."""
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
    if "model-index" in metadata and not results:
        yield "model-index has no results"
    for result in results:
        if isinstance(result.metric_value, bool) or not isinstance(result.metric_value, int | float):
            yield f"model-index: the value of {result.metric_type!r} is not a number"
