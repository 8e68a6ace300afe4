"""What a caller says of how a model is loaded, read into :class:`~sottovoce.model.LoadOptions`: nothing is ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.errors import UsageError
from sottovoce.model import LoadOptions

OWN = tuple(field.name for field in dataclasses.fields(LoadOptions) if field.name != "native")
"""The options that are Sottovoce's; all others are the native library's."""

_SYNONYMS = {"model_revision": "revision", "torch_dtype": "dtype"}
"""What other libraries call an option of ours."""

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
"""Options of other libraries that are refused, and what to do instead."""


def read_options(given: Mapping[str, Any]) -> LoadOptions:
    """Separate Sottovoce's options from those of the library that builds the model.

    Raises:
        UsageError: Two names of one option disagree, or a value is none that the option has.
    """
    options = dict(given)
    for name, ours in _SYNONYMS.items():
        value = options.pop(name, None)
        if value is None:
            continue
        if options.get(ours) not in (None, value):
            raise UsageError(f"{name}={value!r} and {ours}={options[ours]!r} disagree; give one of them")
        options[ours] = value
    if options.pop("trust_remote_code", False):
        raise UsageError("trust_remote_code: nothing that a model repository brings is run; leave it out")
    for name, advice in _ADVICE.items():
        if options.pop(name, None) is not None:
            raise UsageError(f"{name} is not taken: {advice}")
    own = {name: options.pop(name) for name in OWN if name in options}
    return LoadOptions(**own | _checked(own), native=options)


def _checked(own: Mapping[str, Any]) -> dict[str, Any]:
    """The options whose values have several forms."""
    checked: dict[str, Any] = {}
    if (hub := own.get("hub")) is not None:
        if hub not in _HUBS:
            raise UsageError(f"hub={hub!r}: no such hub; there are hf and modelscope")
        checked["hub"] = _HUBS[hub]
    if (dtype := own.get("dtype")) is not None:
        # torch.float16 is float16.
        checked["dtype"] = str(dtype).removeprefix("torch.")
        if checked["dtype"] not in _DTYPES:
            raise UsageError(f"dtype={checked['dtype']!r}: not one of {', '.join(_DTYPES)}")
    if (patterns := own.get("allow_unexpected")) is not None:
        checked["allow_unexpected"] = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if (cache := own.get("cache_dir")) is not None:
        checked["cache_dir"] = Path(cache)
    return checked
