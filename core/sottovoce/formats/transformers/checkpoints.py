"""Weights of a built model from its files, one function for each kind of checkpoint that transformers does not read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.shards import Shards, weight_files
from sottovoce.checkpoint.stream import Rename, Stream
from sottovoce.checkpoint.weights import (
    Form,
    check_fit,
    check_values,
    copy_tensors,
    forms,
    load_strictly_,
    share_,
    shared_parameters,
)
from sottovoce.errors import as_source_error
from sottovoce.formats import compressed_tensors
from sottovoce.formats.transformers.expert_weights import Names, with_ties
from sottovoce.recipe.pattern import matches

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.architecture import Architecture
    from sottovoce.source import LoadOptions


def prepare_layers_(native: Any, quantization: Any, architecture: Architecture, directory: Path) -> None:
    """Put linear experts and empty quantized layers into a built model, ready for their tensors.

    Args:
        native: The model, without memory for its weights.
        quantization: Its ``quantization_config``, or ``None`` for a float model.
        architecture: Its family.
        directory: Its directory, for errors.

    Raises:
        SourceError: The configuration describes layers that the model does not have.
    """
    from sottovoce.runtime.expert_skipping import install_skipping_
    from sottovoce.runtime.experts import unfuse_

    with as_source_error(directory / "config.json", "describes layers that cannot be put into the model"):
        unfuse_(native, architecture.experts)
        install_skipping_(native, native.config, architecture.experts)
        if quantization is not None:
            compressed_tensors.prepare_(native, quantization, directory / "config.json")


def fill_quantized_(native: Any, directory: Path, options: LoadOptions) -> None:
    """Load a checkpoint of quantized layers whose names are the module's.

    Raises:
        CheckpointError: A tensor is missing, unexpected or misshapen.
    """
    from torch import nn

    from sottovoce.runtime.int8_embedding import Int8Embedding
    from sottovoce.runtime.int8_linear import Int8Linear

    # They stay in the mapped file: of tables a few rows are looked up, and int8 weights are read once, to pack them.
    kinds = nn.Embedding, Int8Embedding, Int8Linear
    mapped = {f"{name}.weight" for name, child in native.named_modules() if isinstance(child, kinds)}
    tensors: dict[str, Tensor] = {}
    for path in weight_files(directory, options.weights):
        tensors |= copy_tensors(path, mapped=mapped)
    load_strictly_(native, tensors, str(directory), options.allow_unexpected)


def fill_experts_(native: Any, directory: Path, options: LoadOptions) -> Rename:
    """Load a mixture's checkpoint tensor by tensor, so that no expert is ever stacked with the others.

    Returns:
        The way from the module's names to the stored ones.

    Raises:
        CheckpointError: A tensor is missing, unexpected or misshapen.
    """
    shards = Shards.of(directory, options.weights)
    names = Names.of(native, shards.names)
    stored = with_ties(native, names.stored)
    tensors = shards.read(dict.fromkeys(stored.values()))
    renamed = {name: tensors[source] for name, source in stored.items()}
    del tensors
    load_strictly_(native, renamed, str(directory), options.allow_unexpected)
    return names.rename()


def fill_streamed_(
    native: Any, architecture: Architecture, directory: Path, options: LoadOptions
) -> tuple[Stream, Rename]:
    """Load what lies outside a model's blocks, and leave the blocks on disk until they are worked on.

    Returns:
        The stream of the blocks, and the way from the module's names to the stored ones.

    Raises:
        CheckpointError: A tensor is missing, unexpected or misshapen.
    """
    shards = Shards.of(directory, options.weights)
    names = Names.of(native, shards.names)
    stored = with_ties(native, names.stored)
    state = native.state_dict()
    on_disk = {name: Form(shards.shape(source), shards.dtype(source)) for name, source in stored.items()}
    check_fit(forms(state), on_disk, str(directory), options.allow_unexpected)
    blocks = {
        block: {name: stored[name] for name in stored if name.startswith(f"{block}.")}
        for block in _blocks(native, architecture)
    }
    inside = {name for block in blocks.values() for name in block}
    outside = {name: stored[name] for name in state if name not in inside}
    mapped = shards.map(set(outside.values()))
    tensors = {name: mapped[source].to(state[name].dtype) for name, source in outside.items()}
    ties = shared_parameters(native)
    native.load_state_dict(tensors, strict=False, assign=True)
    share_(native, ties)
    check_values(native, str(directory))
    return Stream(native, blocks, shards), names.rename()


def _blocks(native: nn.Module, architecture: Architecture) -> list[str]:
    """Return the names of a model's blocks; one within another does not count."""
    blocks: list[str] = []
    for name, child in native.named_modules():
        kind = type(child).__name__
        inside = any(name.startswith(f"{block}.") for block in blocks)
        if not inside and any(matches(name, kind, pattern) for pattern in architecture.layers.blocks):
            blocks.append(name)
    return blocks
