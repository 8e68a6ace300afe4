"""An embedding table stored as int8, a scale for each row; rows become float as they are looked up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import compute_qparams


class Int8Embedding(nn.Module):
    """A table under the names that compressed-tensors gives ``int-quantized`` weights.

    Attributes:
        weight: int8 ``[rows, width]``.
        weight_scale: ``[rows, 1]``, of the dtype of the float table that this one stands for.
    """

    weight: Tensor
    weight_scale: Tensor

    scheme = Scheme(bits=8)

    def __init__(
        self,
        rows: int,
        width: int,
        padding_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Make a table to be filled by ``load_state_dict``; until then its weights are arbitrary."""
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.padding_idx = rows, width, padding_idx
        self.register_buffer("weight", torch.empty(rows, width, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.empty(rows, 1, dtype=dtype, device=device))

    @classmethod
    def from_float(cls, embedding: nn.Embedding) -> Int8Embedding:
        """Quantize a table by rounding to nearest, with a scale for each row; it is left as it was."""
        weight = embedding.weight.detach()
        qparams = compute_qparams(weight, cls.scheme)
        table = cls(embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx, "meta", weight.dtype)
        table.weight, table.weight_scale = qparams.quantize(weight), qparams.scale.to(weight.dtype)
        return table.train(embedding.training)

    def dequantize(self) -> nn.Embedding:
        """Return the float32 table that this one stands for."""
        weight = self.weight.float() * self.weight_scale.float()
        return nn.Embedding.from_pretrained(weight, padding_idx=self.padding_idx)  # type: ignore[no-untyped-call, no-any-return]

    def forward(self, ids: Tensor) -> Tensor:
        """Look rows up: ``[...]`` to ``[..., width]`` of the dtype of the scales."""
        scale = functional.embedding(ids, self.weight_scale)
        return functional.embedding(ids, self.weight).to(scale.dtype) * scale

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
