"""The inputs of a layer's experts: the tokens of all samples, and the experts that the router chooses for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sottovoce.calibration.blocks import StopPassError
from sottovoce.calibration.divided import SampleTokens, exchange_tokens
from sottovoce.errors import NotFiniteError, SottovoceError
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from sottovoce.calibration.blocks import Block
    from sottovoce.calibration.sample_threads import SampleThread
    from sottovoce.samples import Sample

EVERY = "all"
"""Kind of all tokens of a family that states no ``Runner.modalities``."""


@dataclass(frozen=True)
class Routed:
    """Tokens that reach the experts of a layer, and the experts that the router chooses for them."""

    hidden: Tensor
    """Inputs of the experts ``[tokens, width]``."""
    index: Tensor
    """Experts of each token, int64 ``[tokens, top_k]``."""
    weight: Tensor
    """Gate values ``[tokens, top_k]``, which the experts' outputs are multiplied by."""
    modality: Tensor
    """Kind of each token, an index into ``modalities``, int64 ``[tokens]``."""
    modalities: tuple[str, ...]
    """Names of the kinds."""
    is_shared: bool = False
    """If true, all processes have these same tokens, and may divide the experts."""

    def __len__(self) -> int:
        return len(self.hidden)


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
        modalities_of: Returns the kind of every token that the block is given for a sample.
        sample_threads: The threads to run, a subset of the block's; by default all.

    Returns:
        The tokens of the samples, one after another, those of other processes too; ``None`` when no sample reaches the
        experts.

    Raises:
        NotFiniteError: An input of the experts is infinite or not a number.
    """
    sample_threads = block.sample_threads if sample_threads is None else sample_threads
    inputs: list[tuple[Tensor, Tensor, Tensor]] = []
    samples: list[SampleTokens] = []
    with _collecting(block.root.get_submodule(experts), inputs):
        outputs = block.run(sample_threads)
        for number, sample_thread in enumerate(sample_threads):
            before = len(inputs)
            next(outputs)
            if len(inputs) > before:
                place = block.keys.index(sample_thread.sample.key) if block.is_divided else number
                kinds = _kinds(sample_thread, len(inputs[-1][0]), modalities_of)
                samples.append(SampleTokens(place, inputs[-1], kinds))
    if block.is_divided:
        samples = exchange_tokens(samples, 3)
    return _together(samples, experts, block.is_divided)


def _together(samples: Sequence[SampleTokens], experts: str, is_shared: bool) -> Routed | None:
    if not samples:
        return None
    hidden, index, weight = (torch.cat(parts) for parts in zip(*(sample.tensors for sample in samples), strict=True))
    kinds = [kind for sample in samples for kind in sample.kinds]
    if not bool(hidden.isfinite().all()):
        raise NotFiniteError(f"the inputs of the experts {experts!r} are not finite; is a sample or the model damaged?")
    names = tuple(dict.fromkeys(kinds))
    numbers = {name: number for number, name in enumerate(names)}
    modality = torch.tensor([numbers[kind] for kind in kinds], device=hidden.device)
    return Routed(hidden, index, weight, modality, names, is_shared)


@contextmanager
def _collecting(experts: nn.Module, inputs: list[tuple[Tensor, Tensor, Tensor]]) -> Iterator[None]:
    """Append the hidden states, indexes and gate values that the experts are called with, and end the pass there."""

    def collect(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden, index, weight = (*arguments, *named.values())[:3]
        inputs.append((hidden.reshape(-1, hidden.shape[-1]), index, weight))
        raise StopPassError

    hook = experts.register_forward_pre_hook(collect, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _kinds(
    sample_thread: SampleThread, count: int, modalities_of: Callable[[Sample], Sequence[str]] | None
) -> Sequence[str]:
    if modalities_of is None:
        return [EVERY] * count
    kinds = modalities_of(sample_thread.sample)
    if len(kinds) != count:
        raise SottovoceError(
            f"the sample {sample_thread.sample.key!r}: the family names the kinds of {counted(len(kinds), 'token')}, "
            f"but the block is given {count}; its plugin's modalities is wrong"
        )
    return kinds
