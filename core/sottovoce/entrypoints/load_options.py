"""Options of ``load``, read into :class:`~sottovoce.source.LoadOptions`; none is ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sottovoce.errors import UsageError
from sottovoce.source import LoadOptions
from sottovoce.system.path_argument import as_name, as_path

OWN = tuple(field.name for field in dataclasses.fields(LoadOptions) if field.name != "native")
"""Sottovoce's own options; all others are the native library's."""

_SYNONYMS = {"model_revision": "revision", "torch_dtype": "dtype"}
"""Names of other libraries for Sottovoce's options."""

_HUBS = {"hf": "hf", "huggingface": "hf", "ms": "modelscope", "modelscope": "modelscope"}
_DTYPES = ("auto", "float32", "float16", "bfloat16", "float64")
_ADVICE = {
    "device_map": "a model is on one device: give device=",
    "quantization_config": "give a recipe",
    "load_in_8bit": "give the recipe int8",
    "load_in_4bit": "give the recipe int4",
    "local_files_only": "set HF_HUB_OFFLINE=1",
    "force_download": "give another cache_dir",
    "subfolder": "give the directory",
    "variant": "give weights=, the name of the file",
    "state_dict": "compress the model in memory",
}
"""Options of other libraries that are refused, each with what to do instead."""


def read_options(options: Mapping[str, Any]) -> LoadOptions:
    """Separate Sottovoce's options from those of the library that builds the model.

    Raises:
        UsageError: Two names of one option disagree, or an option is refused or has an invalid value.
    """
    native = dict(options)
    for synonym, name in _SYNONYMS.items():
        value = native.pop(synonym, None)
        if value is None:
            continue
        if native.get(name) not in (None, value):
            raise UsageError(f"{synonym}={value!r} and {name}={native[name]!r} disagree; give one of them")
        native[name] = value
    if native.pop("trust_remote_code", False):
        raise UsageError("trust_remote_code: code in a model repository is never run; leave it out")
    for name, advice in _ADVICE.items():
        if native.pop(name, None) is not None:
            raise UsageError(f"{name} is not accepted: {advice}")
    known = {name: native.pop(name) for name in OWN if name in native}
    return LoadOptions(**known | _normalized(known), native=native)


def refuse_unused(options: Iterable[str], call: str) -> None:
    """Refuse options of ``load`` where no model is loaded that they could count for.

    Raises:
        UsageError: There are some; names them.
    """
    if names := ", ".join(sorted(options)):
        raise UsageError(f"{call}: {names} would change nothing, since the model is loaded already; give it to load")


def _normalized(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have values of several forms, each in its one form; ``None`` is the default."""
    normalized = {name: _FORMS[name](value) for name, value in options.items() if value is not None and name in _FORMS}
    return {"device": "cpu", **normalized} if "device" in options else normalized


def _hub(hub: Any) -> str:
    if not isinstance(hub, str) or hub not in _HUBS:
        raise UsageError(f"hub={hub!r}: no such hub; give hf or modelscope")
    return _HUBS[hub]


def _dtype(dtype: Any) -> str:
    # torch.float16 is float16.
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise UsageError(f"dtype={name!r}: not one of {', '.join(_DTYPES)}")
    return name


def _patterns(patterns: Any) -> tuple[str, ...]:
    if isinstance(patterns, str):
        return (patterns,)
    several = tuple(patterns) if isinstance(patterns, Iterable) else (patterns,)
    if other := [pattern for pattern in several if not isinstance(pattern, str)]:
        raise UsageError(f"allow_unexpected: give patterns of names, not {type(other[0]).__name__}")
    return several


def _text(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise UsageError(f"{name}: give a text, not {type(text).__name__}")
    return text


_FORMS: Mapping[str, Callable[[Any], Any]] = {
    "allow_unexpected": _patterns,
    "cache_dir": lambda path: as_path(path, "cache_dir"),
    "device": str,  # torch.device("cuda", 1) is cuda:1
    "dtype": _dtype,
    "hub": _hub,
    "revision": lambda revision: _text("revision", revision),
    "token": lambda token: token if isinstance(token, bool) else _text("token", token),  # true is the stored one
    "weights": lambda weights: as_name(weights, "weights", "the name of a file"),
}
"""Functions that return a value in its one form, or refuse it, by option."""
