"""A transformers model built from its configuration, without memory for its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.shards import Shards, weight_files
from sottovoce.checkpoint.weights import without_memory
from sottovoce.errors import SourceError, as_source_error
from sottovoce.formats.transformers.configuration import read_settings, stated_dtype

if TYPE_CHECKING:
    from sottovoce.source import LoadOptions

_IMPLEMENTATIONS = {
    "attn_implementation": "_attn_implementation",
    "experts_implementation": "_experts_implementation",
}
"""Keyword arguments of ``from_pretrained`` that are not keys of a configuration, and the attributes that they set."""


def build(config: dict[str, Any], directory: Path, options: LoadOptions) -> Any:
    """Build the model that ``config.json`` describes, without memory for its weights.

    Raises:
        SourceError: The configuration describes no model that transformers can build.
        UsageError: An option is unknown to the configuration.
    """
    import torch

    from sottovoce.checkpoint.budget import BuildingBudget
    from sottovoce.formats.transformers.default_dtype import thread_default_type

    path = directory / "config.json"
    kind = model_class(config, directory)
    shards = Shards(weight_files(directory, options.weights))
    settings = read_settings(kind, config, path)
    apply_(settings, options)
    stated = stated_dtype(config, path) or "float32"
    dtype = getattr(torch, stated if options.dtype in (None, "auto") else str(options.dtype))
    with (
        as_source_error(path, "transformers cannot build the model that it describes"),
        thread_default_type(),
        without_memory(),
        BuildingBudget(directory, len(shards), shards.size_bytes),
    ):
        torch.set_default_dtype(dtype)
        return kind(settings)


def build_to_generate(config: dict[str, Any], directory: Path, options: LoadOptions) -> Any:
    """Build a model as :func:`build` does, with the settings for generation that the directory has."""
    native = build(config, directory, options)
    path = directory / "generation_config.json"
    if native.can_generate() and path.is_file():
        from transformers import GenerationConfig

        with as_source_error(path, "cannot be read"):
            native.generation_config = GenerationConfig.from_pretrained(directory, local_files_only=True)
    return native


def model_class(config: Mapping[str, Any], directory: Path) -> Any:
    """Return the class of transformers that a configuration names.

    Raises:
        SourceError: This version of transformers has no such class.
    """
    import transformers

    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    kind = getattr(transformers, name, None) if name else None
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        raise SourceError(
            f"{directory}: transformers {transformers.__version__} has no model class {name[:60]!r}; a newer may"
        )
    return kind


def apply_(settings: Any, options: LoadOptions) -> None:
    """Put the native keyword arguments into a configuration of transformers, as ``from_pretrained`` does.

    Raises:
        UsageError: The configuration has no such key.
    """
    options.refuse_unknown({*settings.to_dict(), *_IMPLEMENTATIONS}, "transformers")
    for name, value in options.native.items():
        setattr(settings, _IMPLEMENTATIONS.get(name, name), value)
