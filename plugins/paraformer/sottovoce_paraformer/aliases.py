"""FunASR's short names for hub repositories, read from FunASR itself."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from sottovoce import LoadOptions, Repository
from sottovoce.errors import UnknownModelError

SUPPORTED = (
    "paraformer",
    "paraformer-zh",
    "paraformer-en",
    "paraformer-en-spk",
    "fsmn-vad",
    "ct-punc",
    "ct-punc-c",
    "cam++",
)
"""Aliases of models that this plugin describes; ``paraformer-zh`` is SeACo on ModelScope, plain on Hugging Face."""

MODELSCOPE_OWNERS = ("iic", "damo")
"""Owners of FunASR's models on ModelScope, so that such an id needs no ``hub``."""

BUILT_IN = ("silero-vad", "silero_vad")
"""Names that FunASR serves from an installed package, not from a repository."""


def resolve(name: str, options: LoadOptions) -> Repository | None:
    """Return the repository of a FunASR alias, or of a ModelScope id of FunASR's; ``None`` for any other name.

    Raises:
        UnknownModelError: FunASR knows the alias, but the model is of a kind that is not supported.
    """
    repository = find(name, options)
    if repository is not None and "/" not in name and name not in SUPPORTED:
        raise UnknownModelError(
            f"{name}: FunASR's alias of {repository.id}, a model that the paraformer plugin does not support; "
            f"it supports {', '.join(SUPPORTED)}"
        )
    return repository


def find(name: str, options: LoadOptions) -> Repository | None:
    """Resolve a name as :func:`resolve` does, for a model of any kind that FunASR knows."""
    if "/" in name:
        owner = name.partition("/")[0]
        if options.hub is None and owner in MODELSCOPE_OWNERS:
            return Repository(id=name, hub="modelscope", revision=options.revision)
        return None
    hub = options.hub or "modelscope"
    repository = _names(hub).get(name)
    return None if repository is None else Repository(id=repository, hub=hub, revision=options.revision)


@functools.cache
def _names(hub: str) -> Mapping[str, str]:
    # FunASR's package imports every model on import (8 s); its table of names is one file without imports.
    package = importlib.util.find_spec("funasr")
    if package is None or not package.submodule_search_locations:
        return {}
    path = Path(package.submodule_search_locations[0]) / "download" / "name_maps_from_hub.py"
    spec = importlib.util.spec_from_file_location("sottovoce_paraformer._funasr_names", path)
    if spec is None or spec.loader is None:
        return {}
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.name_maps_ms if hub == "modelscope" else module.name_maps_hf)
