"""Small mixtures of experts for the tests of pruning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.drawn import normal
from sottovoce.calibration.routing import Routed
from sottovoce.runtime.experts import PROJECTIONS, Expert, Experts

MODALITIES = ("text", "audio")


class Router(nn.Module):
    """The router of Qwen's mixtures."""

    def __init__(self, weight: Tensor, top_k: int, norm_topk_prob: bool = True) -> None:
        super().__init__()
        self.num_experts, self.hidden_dim = weight.shape
        self.top_k, self.norm_topk_prob = top_k, norm_topk_prob
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.masked: Sequence[int] = ()
        """Experts whose logits are minus infinity."""

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = nn.functional.linear(hidden.reshape(-1, self.hidden_dim), self.weight)
        logits = logits.index_fill(1, torch.tensor(list(self.masked), dtype=torch.int64), -torch.inf)
        probabilities = torch.softmax(logits, dtype=torch.promote_types(logits.dtype, torch.float), dim=-1)
        values, index = torch.topk(probabilities, self.top_k, dim=-1)
        if self.norm_topk_prob:
            values = values / values.sum(-1, keepdim=True)
        return logits, values.to(logits.dtype), index


class Mixture(nn.Module):
    """A router, experts, and what Qwen's talker has beside them: an expert that every token takes."""

    def __init__(self, experts: Experts, gate: Router) -> None:
        super().__init__()
        self.experts, self.gate = experts, gate
        self.num_experts = len(experts)

    def forward(self, hidden: Tensor) -> Tensor:
        rows = hidden.reshape(-1, hidden.shape[-1])
        _, weight, index = self.gate(rows)
        return self.experts(rows, index, weight).reshape(hidden.shape)  # type: ignore[no-any-return]


def make_experts(
    count: int = 8, width: int = 16, inner: int = 12, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Experts:
    """Experts that differ, some much larger than others."""
    made = Experts(Expert(width, inner, nn.functional.silu, dtype, "cpu") for _ in range(count))
    for number, expert in enumerate(made):
        for place, name in enumerate(PROJECTIONS):
            layer = expert.get_submodule(name)
            weight = normal(*layer.weight.shape, seed=1000 * seed + 10 * number + place) / width**0.5
            layer.weight = nn.Parameter((weight * (1 + number % 5)).to(dtype), requires_grad=False)
    return made


def make_mixture(
    count: int = 8,
    top_k: int = 2,
    width: int = 16,
    seed: int = 0,
    norm_topk_prob: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Mixture:
    """A router over :func:`make_experts`."""
    weight = normal(count, width, seed=seed + 77).to(dtype)
    return Mixture(make_experts(count, width, seed=seed, dtype=dtype), Router(weight, top_k, norm_topk_prob)).eval()


def route(mixture: Mixture, tokens: int = 50, seed: int = 0) -> Routed:
    """Random tokens of two kinds, and where the router sends them; audio tokens lie together."""
    hidden = normal(tokens, mixture.gate.hidden_dim, seed=seed + 5)
    modality = torch.arange(tokens) % 2
    hidden = hidden + 1.5 * modality[:, None] * normal(1, mixture.gate.hidden_dim, seed=3)
    hidden = hidden.to(mixture.gate.weight.dtype)
    _, weight, index = mixture.gate(hidden)
    return Routed(hidden, index, weight, modality, MODALITIES)
