"""Options of ``load``, read into :class:`~sottovoce.source.LoadOptions`; none is ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.errors import UsageError
from sottovoce.source import LoadOptions

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


def _normalized(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have values of several forms, each in its one form."""
    normalized: dict[str, Any] = {}
    if (hub := options.get("hub")) is not None:
        if hub not in _HUBS:
            raise UsageError(f"hub={hub!r}: no such hub; give hf or modelscope")
        normalized["hub"] = _HUBS[hub]
    if (dtype := options.get("dtype")) is not None:
        # torch.float16 is float16.
        normalized["dtype"] = str(dtype).removeprefix("torch.")
        if normalized["dtype"] not in _DTYPES:
            raise UsageError(f"dtype={normalized['dtype']!r}: not one of {', '.join(_DTYPES)}")
    if (patterns := options.get("allow_unexpected")) is not None:
        normalized["allow_unexpected"] = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if (cache := options.get("cache_dir")) is not None:
        normalized["cache_dir"] = Path(cache)
    return normalized
