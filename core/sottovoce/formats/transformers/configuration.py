"""A transformers configuration from what a repository wrote: the keys of its class, none that leads elsewhere."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.limits import check_numbers
from sottovoce.errors import SourceError, as_source_error
from sottovoce.text.plain_text import one_line

DTYPES = ("float32", "float16", "bfloat16", "float64")
"""Types that a model's weights can have."""

_PLANS = frozenset(f"base_model_{kind}_plan" for kind in ("tp", "fsdp", "pp", "ep"))
_INTERNAL = _PLANS | {
    "base_config_key",
    "sub_configs_defaults",
    "attribute_map",
    "_auto_class",
    "extra_files",
    "extra_config_files",
}
"""Fields of the classes that describe the class, not a model."""

_OLDER = frozenset(
    {
        "architectures",
        "dtype",
        "id2label",
        "label2id",
        "model_type",
        "rope_parameters",
        "rope_scaling",
        "torch_dtype",
        "transformers_version",
        "transformers_weights",
    }
)
"""Keys with words that every configuration may have, or had before."""

_SAYS_NOTHING = frozenset({"_name_or_path", "_commit_hash", "name_or_path", "tokenizer_class", "quantization_config"})
"""Keys with words that are left out silently: they are read elsewhere, or say where a file once was."""

_IMPLEMENTATION = re.compile(r"_?(attn|experts|kernels?|moe)_?(implementation|config)(_.*)?|use_kernels?|_?kernel_.*")
_BUILT_IN = re.compile(r"[a-z_0-9]{1,40}")
"""Names of what transformers has itself; other names have an owner, and would be fetched and run."""

_log = logging.getLogger("sottovoce")


def read_settings(kind: Any, config: Mapping[str, Any], path: Path) -> Any:
    """Make the configuration object of a model class.

    Settings of how a model is computed say nothing of its weights and are left to transformers. Keys that the class
    does not know are left out, and reported; numbers and lists of them name nothing and stay.

    Args:
        kind: The class of the model.
        config: Content of ``config.json``.
        path: The file, for errors.

    Raises:
        SourceError: It is of another class, asks for code from elsewhere, or has values that no model has.
    """
    config_class = getattr(kind, "config_class", None)
    stated = config.get("model_type")
    if config_class is None or stated not in (None, config_class.model_type):
        raise SourceError(f"{path}: model_type {one_line(repr(stated), 60)} is not that of {kind.__name__}")
    left_out: list[str] = []
    plain = _known(config_class, config, path, (), left_out)
    check_numbers(plain, path)
    if left_out:
        shown = ", ".join(one_line(place, 60) for place in left_out[:8])
        _log.warning("%s: left out of %s: %s", path.parent, path.name, shown)
    with as_source_error(path, "describes no model that transformers can build"):
        return config_class.from_dict(plain) if stated is None else config_class(**plain)


def stated_dtype(config: Mapping[str, Any], path: Path) -> str | None:
    """Return the type of weights that a configuration states.

    Raises:
        SourceError: It is not the name of a type.
    """
    stated = config.get("dtype") or config.get("torch_dtype")
    if stated is None or stated == "auto":
        return None
    name = stated.removeprefix("torch.") if isinstance(stated, str) else stated
    if name not in DTYPES:
        raise SourceError(f"{path}: dtype {one_line(repr(stated), 60)} is none of {', '.join(DTYPES)}")
    return str(name)


def _known(kind: Any, part: Any, path: Path, place: tuple[str, ...], left_out: list[str]) -> dict[str, Any]:
    """Return the keys that a class of configuration knows, and those of the parts within it."""
    where = ".".join(place) or path.name
    if not isinstance(part, Mapping):
        raise SourceError(f"{path}: {where} must be a mapping, not {type(part).__name__}")
    stated_dtype(part, path)
    fields = (set(getattr(kind, "__dataclass_fields__", ())) | set(kind.attribute_map)) - _INTERNAL
    kept: dict[str, Any] = {}
    for key, value in part.items():
        inner = (*place, key)
        if key in _SAYS_NOTHING or key in _INTERNAL:
            continue
        if _IMPLEMENTATION.fullmatch(key):
            _check_implementation(value, path, inner)
        elif key in kind.sub_configs and value is not None:
            kept[key] = _known(_class_of(kind.sub_configs[key], value, path, inner), value, path, inner, left_out)
        elif key in fields or key in _OLDER or _names_nothing(value):
            kept[key] = value
        else:
            left_out.append(".".join(inner))
    return kept


def _class_of(kind: Any, part: Any, path: Path, place: tuple[str, ...]) -> Any:
    """Return the class of a part of a configuration, which the part itself may name."""
    from transformers import CONFIG_MAPPING

    if hasattr(kind, "sub_configs"):
        return kind
    name = part.get("model_type") if isinstance(part, Mapping) else None
    if not isinstance(name, str) or name not in CONFIG_MAPPING:
        raise SourceError(f"{path}: {'.'.join(place)}.model_type {one_line(repr(name), 60)} is not known here")
    return CONFIG_MAPPING[name]


def _check_implementation(value: Any, path: Path, place: tuple[str, ...]) -> None:
    words = value.values() if isinstance(value, Mapping) else [value]
    for word in words:
        if not (word is None or isinstance(word, bool) or (isinstance(word, str) and _BUILT_IN.fullmatch(word))):
            raise SourceError(
                f"{path}: {'.'.join(place)} {one_line(repr(word), 60)} is refused: it would be fetched and run"
            )


def _names_nothing(value: Any) -> bool:
    """Return whether a value has no words in it."""
    if isinstance(value, Mapping):
        return all(_names_nothing(inner) for inner in value.values())
    if isinstance(value, list):
        return all(map(_names_nothing, value))
    return not isinstance(value, str) or value == ""
