"""An embedding table stored as int8, a scale for each row; rows become float as they are looked up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Int8Embedding(nn.Module):
    """A table under the names that compressed-tensors gives ``int-quantized`` weights.

    Attributes:
        weight: int8 ``[rows, width]``.
        weight_scale: float32 ``[rows, 1]``.
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(
        self, rows: int, width: int, padding_idx: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Make a table to be filled by ``load_state_dict``; until then its weights are arbitrary."""
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.padding_idx = rows, width, padding_idx
        self.register_buffer("weight", torch.empty(rows, width, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.empty(rows, 1, dtype=torch.float32, device=device))

    @classmethod
    def from_float(cls, embedding: nn.Embedding) -> Int8Embedding:
        """Round a table to the nearest of 255 steps of each row's largest value; it is left as it was."""
        weight = embedding.weight.detach().float()
        largest = weight.abs().amax(dim=1, keepdim=True)
        made = cls(embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx, device="meta")
        made.weight_scale = torch.where(largest > 0, largest / 127, 1.0).clamp_(min=torch.finfo(torch.float32).tiny)
        made.weight = torch.round(weight / made.weight_scale).clamp_(-127, 127).to(torch.int8)
        return made.train(embedding.training)

    def dequantize(self) -> nn.Embedding:
        """The float32 table that this one stands for."""
        table = nn.Embedding(self.num_embeddings, self.embedding_dim, padding_idx=self.padding_idx, device="meta")
        table.weight = nn.Parameter(self.weight.float() * self.weight_scale, requires_grad=False)
        return table

    def forward(self, ids: Tensor) -> Tensor:
        """Look rows up: ``[...]`` to float32 ``[..., width]``."""
        return functional.embedding(ids, self.weight).float() * functional.embedding(ids, self.weight_scale)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
