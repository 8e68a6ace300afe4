"""Trains mixtures of experts quickly, and has the experts share the tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def run_experts(
    experts: Any, tokens: torch.Tensor, chosen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every chosen expert's output, all experts in one product.

    Args:
        experts: The experts' weights, as Transformers keeps them.
        tokens: Their inputs `[tokens, width]`.
        chosen: Experts of every token `[tokens, k]`.

    Returns:
        Outputs `[tokens * k, width]`, of which expert they are and of which token, sorted by expert.
    """
    count, per_token = int(experts.gate_up_proj.shape[0]), chosen.shape[1]
    expert, order = chosen.flatten().sort(stable=True)
    owner = order // per_token
    sizes = torch.bincount(expert, minlength=count)
    place = torch.arange(len(expert)) - (sizes.cumsum(0) - sizes)[expert]
    inputs = tokens.new_zeros(count, int(sizes.max()), tokens.shape[-1]).index_put((expert, place), tokens[owner])
    gate, up = torch.bmm(inputs, experts.gate_up_proj.transpose(1, 2)).chunk(2, -1)
    outputs = torch.bmm(functional.silu(gate) * up, experts.down_proj.transpose(1, 2))
    return outputs[expert, place], expert, order


class ExpertTraining:
    """State of a training step for the mixtures of experts, and the loss that they collect.

    Attributes:
        valid: Which tokens are no padding, flat.
        balance: Sum over layers of how unevenly the tokens are dealt, 1 each at best.
    """

    def __init__(self) -> None:
        self.valid = torch.ones(0, dtype=torch.bool)
        self.balance: torch.Tensor | float = 0.0

    def begin(self, valid: torch.Tensor) -> None:
        """Start a step."""
        self.valid, self.balance = valid.flatten().bool(), 0.0

    def mix(self, block: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Run a mixture's forward pass; outside training it equals the class's own."""
        every = hidden.reshape(-1, hidden.shape[-1])
        tokens, router = every[self.valid] if block.training else every, block.gate
        shares = functional.linear(tokens, router.weight).float().softmax(-1)
        weights, chosen = shares.topk(router.top_k, -1)
        if router.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        outputs, expert, order = run_experts(block.experts, tokens, chosen)
        added = outputs * weights.flatten()[order, None]
        mixed = torch.zeros_like(tokens).index_add(0, order // router.top_k, added)
        if block.training:
            self.gather(shares, expert)
        if hasattr(block, "shared_expert"):
            mixed = mixed + torch.sigmoid(block.shared_expert_gate(tokens)) * block.shared_expert(tokens)
        if block.training:
            mixed = torch.zeros_like(every).index_put((self.valid.nonzero()[:, 0],), mixed)
        return mixed.reshape(hidden.shape)

    def gather(self, shares: torch.Tensor, expert: torch.Tensor) -> None:
        """Add a layer's loss."""
        dealt = torch.bincount(expert, minlength=shares.shape[1]).float()
        self.balance = self.balance + shares.shape[1] * (dealt / dealt.sum() * shares.mean(0)).sum()


@contextmanager
def trained_quickly(model: nn.Module) -> Iterator[ExpertTraining]:
    """Lets a model's mixtures of experts run as `ExpertTraining` says."""
    training = ExpertTraining()
    blocks: list[Any] = [module for module in model.modules() if hasattr(module, "experts") and hasattr(module, "gate")]
    for block in blocks:
        block.forward = partial(training.mix, block)
    try:
        yield training
    finally:
        for block in blocks:
            del block.forward
