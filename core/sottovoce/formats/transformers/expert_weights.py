"""Names of tensors in files and in a module: renamings of the library, experts held as linear layers, shared tensors.

The tensors of such a checkpoint go into the module one by one, under the names that the library's own renamings give
them: an expert's weight is never stacked with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sottovoce.checkpoint.stream import Rename
from sottovoce.errors import CheckpointError


@dataclass(frozen=True)
class Names:
    """Names of a checkpoint's tensors: in the module, and as they are stored."""

    stored: Mapping[str, str]
    """Name in the files, by name in the module."""

    @classmethod
    def of(cls, native: Any, stored: Iterable[str]) -> Names:
        """Apply the library's renamings for a class of model to the names in its files."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, apply_renamings

        conversions = get_model_conversion_mapping(native)
        renamings = [conversion for conversion in conversions if isinstance(conversion, WeightRenaming)]
        names = {apply_renamings(name, renamings): name for name in stored}
        if len(names) < len(set(stored)):
            raise CheckpointError("two tensors of the checkpoint are one of the model")
        return cls(names)

    def rename(self) -> Rename:
        """Return a function from a tensor's name in the module to the one that it is stored under.

        It knows tensors that the checkpoint did not have, such as scales, by the module that they belong to.
        """
        owners = {name.rpartition(".")[0]: stored.rpartition(".")[0] for name, stored in self.stored.items()}

        def rename(name: str) -> str:
            owner, _, last = name.rpartition(".")
            if name in self.stored and owner in owners:
                return self.stored[name]
            return f"{owners.get(owner, owner)}.{last}"

        return rename


def has_conversions(native: Any) -> bool:
    """Return whether the library makes parameters of a class out of several stored tensors."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    conversions = get_model_conversion_mapping(native)
    return not all(isinstance(conversion, WeightRenaming) for conversion in conversions)


def with_ties(native: Any, stored: Mapping[str, str]) -> dict[str, str]:
    """Add to the stored names those of tensors that share another's memory and are not stored."""
    names = dict(stored)
    for name, shared in _ties(native).items():
        if name not in names and shared in names:
            names[name] = names[shared]
    return names


def tied(native: Any) -> frozenset[str]:
    """Return the names of tensors that are not stored, for they share another's memory; a quantized table does not."""
    state = native.state_dict()
    return frozenset(
        name
        for name, shared in _ties(native).items()
        if name in state and shared in state and state[name].data_ptr() == state[shared].data_ptr()
    )


def _ties(native: Any) -> dict[str, str]:
    return dict(getattr(native, "all_tied_weights_keys", None) or {})
