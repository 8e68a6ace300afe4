"""The experts of a mixture as linear layers, one set for each expert, in place of three-dimensional parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sottovoce.errors import CoverageError
from sottovoce.recipe.pattern import matches
from sottovoce.runtime.skipping_rule import NOT_RUN, ExpertRuns, Skipping

if TYPE_CHECKING:
    from sottovoce.architecture import ExpertLayout

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
"""The linear layers of an expert, by the names that checkpoints have."""
KERNEL_ROWS = 32


class Expert(nn.Module):
    """One gated feed-forward network: ``down(act(gate(x)) * up(x))``."""

    def __init__(
        self, width: int, inner: int, act_fn: Callable[[Tensor], Tensor], dtype: torch.dtype, device: object = "meta"
    ) -> None:
        """Make an expert with arbitrary weights.

        Args:
            width: Size of an input and of an output.
            inner: Size between them.
            act_fn: The activation.
            dtype: Of the weights.
            device: Where they lie.
        """
        super().__init__()
        options = {"bias": False, "dtype": dtype, "device": device}
        self.gate_proj = nn.Linear(width, inner, **options)  # type: ignore[arg-type]
        self.up_proj = nn.Linear(width, inner, **options)  # type: ignore[arg-type]
        self.down_proj = nn.Linear(inner, width, **options)  # type: ignore[arg-type]
        self.act_fn = act_fn

    def hidden(self, x: Tensor) -> Tensor:
        """Compute the input of the last projection: ``[tokens, width]`` to ``[tokens, inner]``."""
        hidden: Tensor = self.act_fn(self.gate_proj(x)) * self.up_proj(x)
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[tokens, width]`` to the same, not yet weighted by the router."""
        output: Tensor = self.down_proj(self.hidden(x))
        return output


class Experts(nn.ModuleList):
    """All experts of a layer; each runs on the tokens that are routed to it.

    Their state dict has the names that checkpoints of transformers have for them, so every format that stores linear
    layers stores experts.
    """

    def __init__(self, experts: Iterable[nn.Module] = ()) -> None:
        """Hold ``experts`` in order: the router's row ``i`` means the ``i``-th."""
        super().__init__(experts)
        self.num_experts = len(self)
        self.skipping: Skipping | None = None
        """Rule by which experts of a token do not run; by default all run."""
        self.counted: ExpertRuns | None = None
        """Counter of experts that run, while they are counted."""

    @classmethod
    def from_fused(cls, fused: nn.Module, name: str = "experts") -> Experts:
        """Make the experts that a fused module of transformers stands for; their weights are copies.

        Args:
            fused: Has ``gate_up_proj`` ``[experts, 2 * inner, width]``, ``down_proj`` ``[experts, width, inner]`` and
                ``act_fn``.
            name: Name of the module in an error.

        Raises:
            CoverageError: The module is laid out otherwise.
        """
        together, down = getattr(fused, "gate_up_proj", None), getattr(fused, "down_proj", None)
        fits = isinstance(together, Tensor) and isinstance(down, Tensor) and together.dim() == down.dim() == 3
        if not fits or together.shape[1] != 2 * down.shape[2] or together.shape[2] != down.shape[1]:  # type: ignore[union-attr]
            raise CoverageError(
                f"the experts {name!r} ({type(fused).__name__}) are not laid out as [experts, 2 * inner, width] and "
                "[experts, width, inner]; such a mixture is not supported yet"
            )
        assert isinstance(together, Tensor)
        assert isinstance(down, Tensor)
        width, inner, act_fn = together.shape[2], down.shape[2], fused.act_fn
        mixture = cls(Expert(width, inner, act_fn, together.dtype) for _ in range(len(together)))  # type: ignore[arg-type]
        for number, expert in enumerate(mixture):
            parts = (together[number, :inner], together[number, inner:], down[number])
            for projection, weight in zip(PROJECTIONS, parts, strict=True):
                layer = expert.get_submodule(projection)
                layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        return mixture.train(fused.training)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Run every token through its experts.

        Args:
            hidden_states: ``[tokens, width]``.
            top_k_index: int64 ``[tokens, top_k]``, the experts of each token.
            top_k_weights: ``[tokens, top_k]``, what their outputs are multiplied by.

        Returns:
            The weighted sums ``[tokens, width]``.
        """
        if self.skipping is not None:
            top_k_index, top_k_weights = self.skipping(top_k_index, top_k_weights)
        output, runs = torch.zeros_like(hidden_states), 0
        for number, rows, slots in assigned(top_k_index):
            expert_output = self[number](hidden_states[in_kernel_sizes(rows)])[: len(rows)]
            weighted = expert_output * top_k_weights[rows, slots, None]
            output.index_add_(0, rows, weighted.to(output.dtype))
            runs += len(rows)
        if self.counted is not None:
            self.counted.add(len(hidden_states), runs)
        return output


def in_kernel_sizes(rows: Tensor) -> Tensor:
    """Repeat the last of ``rows`` until there are a multiple of 32, on the CPU.

    oneDNN compiles a kernel for every number of rows that it meets, and keeps it: with another number of tokens for
    every expert each time, that takes longer than the products, and some hundred MB.
    """
    missing = -len(rows) % KERNEL_ROWS
    if not missing or rows.device.type != "cpu" or len(rows) < KERNEL_ROWS:
        return rows
    return torch.cat((rows, rows[-1:].expand(missing, *rows.shape[1:])))


def assigned(top_k_index: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield every expert that has tokens, with their rows and slots in ``top_k_index`` ``[tokens, top_k]``."""
    experts, order = top_k_index.flatten().sort(stable=True)
    numbers, counts = torch.unique_consecutive(experts, return_counts=True)
    slots_per_token = top_k_index.shape[1]
    for number, places in zip(numbers.tolist(), torch.split(order, counts.tolist()), strict=True):
        if number != NOT_RUN:
            yield number, places // slots_per_token, places % slots_per_token


def unfuse_(module: nn.Module, layouts: Iterable[ExpertLayout]) -> tuple[str, ...]:
    """Put :class:`Experts` in place of every fused module that the layouts mean, one after another.

    Returns:
        Their names.

    Raises:
        CoverageError: A module is laid out otherwise.
    """
    patterns = [layout.experts for layout in layouts]
    names = [
        name
        for name, child in module.named_modules()
        if not isinstance(child, Experts) and any(matches(name, type(child).__name__, pattern) for pattern in patterns)
    ]
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, Experts.from_fused(module.get_submodule(name), name))
    return tuple(names)


def experts_in(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Experts]]:
    """Yield the name and the experts of every mixture in ``module``; names begin with ``prefix``."""
    for name, child in module.named_modules(prefix=prefix):
        if isinstance(child, Experts):
            yield name, child
