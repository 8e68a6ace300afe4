"""Transformers models whose experts are held as linear layers, and models that are streamed from disk.

The tensors of such a checkpoint go into the module one by one, under the names that the library's own renamings give
them: an expert's weight is never stacked with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.architecture import matches
from sottovoce.checkpoint.shards import Shards
from sottovoce.checkpoint.stream import Rename, Stream
from sottovoce.checkpoint.weights import (
    Form,
    check_fit,
    check_values,
    forms,
    load_strictly_,
    share_,
    shared_parameters,
)  # fmt: skip
from sottovoce.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.architecture import Architecture
    from sottovoce.model import LoadOptions


@dataclass(frozen=True)
class Names:
    """The names of a checkpoint's tensors: in the module, and as they are stored."""

    stored: Mapping[str, str]
    """Name in the module to the name in the files."""

    @classmethod
    def of(cls, native: Any, stored: Iterable[str]) -> Names:
        """Apply the library's renamings for a class of model to the names in its files."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, apply_renamings

        renamings = [one for one in get_model_conversion_mapping(native) if isinstance(one, WeightRenaming)]
        names = {apply_renamings(name, renamings): name for name in stored}
        if len(names) < len(set(stored)):
            raise CheckpointError("two tensors of the checkpoint are one of the model")
        return cls(names)

    def rename(self) -> Rename:
        """A function from a tensor's name in the module to the one that it is stored under.

        It knows tensors that the checkpoint did not have, such as scales, by the module that they belong to.
        """
        owners = {name.rpartition(".")[0]: stored.rpartition(".")[0] for name, stored in self.stored.items()}

        def rename(name: str) -> str:
            owner, _, own = name.rpartition(".")
            if name in self.stored and owner in owners:
                return self.stored[name]
            return f"{owners.get(owner, owner)}.{own}"

        return rename


def has_conversions(native: Any) -> bool:
    """Return whether the library makes parameters of a class out of several stored tensors."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    return not all(isinstance(one, WeightRenaming) for one in get_model_conversion_mapping(native))


def fill_(
    native: Any, shards: Shards, architecture: Architecture, options: LoadOptions, where: Path
) -> tuple[Stream | None, Rename]:
    """Put a checkpoint's tensors into a model that was built without memory.

    Returns:
        The stream, when the options ask for one; and the way from the module's names to the stored ones.

    Raises:
        CheckpointError: A tensor is missing, unexpected or misshapen.
    """
    names = Names.of(native, shards.names)
    stored = _with_ties(native, names.stored)
    if not options.stream:
        load_strictly_(native, _renamed(shards, stored), str(where), options.allow_unexpected)
        return None, names.rename()
    own = native.state_dict()
    lying = {name: Form(shards.shape(each), shards.dtype(each)) for name, each in stored.items()}
    check_fit(forms(own), lying, str(where), options.allow_unexpected)
    blocks = {
        block: {name: stored[name] for name in stored if name.startswith(f"{block}.")}
        for block in _blocks(native, architecture)
    }
    inside = {name for block in blocks.values() for name in block}
    outside = {name: stored[name] for name in own if name not in inside}
    mapped = shards.map(set(outside.values()))
    tensors = {name: mapped[each].to(own[name].dtype) for name, each in outside.items()}
    ties = shared_parameters(native)
    native.load_state_dict(tensors, strict=False, assign=True)
    share_(native, ties)
    check_values(native, str(where))
    return Stream(native, blocks, shards), names.rename()


def _renamed(shards: Shards, stored: Mapping[str, str]) -> dict[str, Tensor]:
    found = shards.read(dict.fromkeys(stored.values()))
    return {name: found[each] for name, each in stored.items()}


def _with_ties(native: Any, stored: Mapping[str, str]) -> dict[str, str]:
    """The stored names, with those of tensors that share another's memory and are not stored."""
    made = dict(stored)
    for name, shared in _ties(native).items():
        if name not in made and shared in made:
            made[name] = made[shared]
    return made


def tied(native: Any) -> frozenset[str]:
    """Names of tensors that are not stored, for they share another's memory; a quantized table shares none."""
    state = native.state_dict()
    return frozenset(
        name
        for name, shared in _ties(native).items()
        if name in state and shared in state and state[name].data_ptr() == state[shared].data_ptr()
    )


def _ties(native: Any) -> dict[str, str]:
    return dict(getattr(native, "all_tied_weights_keys", None) or {})


def _blocks(native: nn.Module, architecture: Architecture) -> list[str]:
    found: list[str] = []
    for name, child in native.named_modules():
        kind = type(child).__name__
        inside = any(name.startswith(f"{block}.") for block in found)
        if not inside and any(matches(name, kind, pattern) for pattern in architecture.layers.blocks):
            found.append(name)
    return found
