"""What the experts of a layer are given: the tokens of all samples, and where the router sends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sottovoce.errors import NotFiniteError, SottovoceError

if TYPE_CHECKING:
    from sottovoce.calibration.blocks import Block
    from sottovoce.calibration.sample_threads import SampleThread
    from sottovoce.samples import Sample

EVERY = "all"
"""The kind of tokens of a family that does not tell kinds apart."""


@dataclass(frozen=True)
class Routed:
    """The tokens that reach the experts of a layer, and where the router sends them."""

    hidden: Tensor
    """What the experts are given ``[tokens, width]``."""
    index: Tensor
    """int64 ``[tokens, top_k]``: the experts of each token."""
    weight: Tensor
    """Gate values ``[tokens, top_k]``: what the experts' outputs are multiplied by."""
    modality: Tensor
    """int64 ``[tokens]``: the kind of each token, as an index into ``modalities``."""
    modalities: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.hidden)


class _EnoughError(Exception):
    """The experts were reached."""


def routed(
    block: Block,
    experts: str,
    modalities_of: Callable[[Sample], Sequence[str]] | None = None,
    sample_threads: Sequence[SampleThread] | None = None,
) -> Routed | None:
    """Run a block on its samples up to the experts, which do not run.

    Args:
        block: The block.
        experts: Name of the experts' module in the model.
        modalities_of: The kind of every token that the block is given for a sample.
        sample_threads: Some of the block's sample_threads; by default all.

    Returns:
        The tokens of the samples, one after another; ``None`` when no sample reaches the experts.

    Raises:
        NotFiniteError: What the experts are given is not finite.
    """
    chosen = block.sample_threads if sample_threads is None else sample_threads
    given: list[tuple[Tensor, Tensor, Tensor]] = []
    kinds: list[str] = []

    def note(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden, index, weight = (*arguments, *named.values())[:3]
        given.append((hidden.reshape(-1, hidden.shape[-1]), index, weight))
        raise _EnoughError

    hook = block.root.get_submodule(experts).register_forward_pre_hook(note, with_kwargs=True)
    try:
        reached = []
        outputs = block.run(ends=_EnoughError, sample_threads=chosen)
        for sample_thread in chosen:
            before = len(given)
            next(outputs)
            if len(given) > before:
                reached.append(sample_thread)
                kinds.extend(_kinds(sample_thread, len(given[-1][0]), modalities_of))
    finally:
        hook.remove()
    if not reached:
        return None
    hidden, index, weight = (torch.cat(parts) for parts in zip(*given, strict=True))
    if not bool(hidden.isfinite().all()):
        raise NotFiniteError(f"what the experts {experts!r} are given is not finite; is a sample or the model damaged?")
    names = tuple(dict.fromkeys(kinds))
    numbers = {name: number for number, name in enumerate(names)}
    modality = torch.tensor([numbers[kind] for kind in kinds], device=hidden.device)
    return Routed(hidden, index, weight, modality, names)


def _kinds(
    sample_thread: SampleThread, count: int, modalities_of: Callable[[Sample], Sequence[str]] | None
) -> Sequence[str]:
    if modalities_of is None:
        return [EVERY] * count
    kinds = modalities_of(sample_thread.sample)
    if len(kinds) != count:
        raise SottovoceError(
            f"the sample {sample_thread.sample.key!r}: the family names the kinds of {len(kinds)} tokens, but the "
            f"block is given {count}; its plugin's modalities is wrong"
        )
    return kinds
