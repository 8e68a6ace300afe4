"""The token predictor of the graph: continuous integrate-and-fire (CIF) without a loop and without a branch.

FunASR goes through the frames, adding up their weights, and fires a token whenever the sum passes a whole number.
So token ``n`` gets from each frame the part of its weight that lies between the sums ``n`` and ``n + 1``. With ``P`` as
the running sum, that part is ``clip(P[t] - n, 0, 1) - clip(P[t - 1] - n, 0, 1)``: a matrix that holds for no tokens as
for many, and times the frames gives all tokens of a batch at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce_paraformer.onnx_modules import Mask, as_float, length_mask


class Context(nn.Module):
    """Each frame with its neighbours."""

    def __init__(self, predictor: Any) -> None:
        super().__init__()
        self.cif_conv1d = predictor.cif_conv1d
        self.padding = tuple(predictor.pad.padding)
        self.residual = predictor.cif_conv1d.groups > 1

    def forward(self, memory: Tensor) -> Tensor:
        """Turn ``[batch, time, width]`` into ``[batch, width, time]``."""
        context = memory.transpose(1, 2)
        output = self.cif_conv1d(functional.pad(context, self.padding))
        return torch.relu(output + context if self.residual else output)


class Predictor(nn.Module):
    """Acoustic embeddings to one embedding a token."""

    def __init__(self, predictor: Any) -> None:
        super().__init__()
        self.context = Context(predictor)
        self.cif_output = as_float(predictor.cif_output)
        self.smooth_factor = float(predictor.smooth_factor)
        self.noise_threshold = float(predictor.noise_threshold)
        self.tail_threshold = float(predictor.tail_threshold)
        # Only the second version can put the tail behind the padding; the others ignore the setting.
        self.tail_mask = bool(getattr(predictor, "tail_mask", True)) or type(predictor).__name__ != "CifPredictorV2"

    def forward(self, memory: Tensor, mask: Mask, lengths: Tensor) -> tuple[Tensor, Tensor, Mask]:
        """Turn the encoder's frames into one embedding for each token.

        Args:
            memory: The encoder's output, ``[batch, time, width]``.
            mask: Mask of the real frames.
            lengths: Numbers of real frames, ``[batch]``.

        Returns:
            Embeddings ``[batch, tokens + 1, width]``, the number of tokens ``[batch]`` as int32, and which positions
            are real; the last never is.
        """
        weights = torch.sigmoid(self.cif_output(self.context(memory).transpose(1, 2)))
        alphas = torch.relu(weights * self.smooth_factor - self.noise_threshold) * mask.frames
        alphas, memory = self._with_tail(alphas[:, :, 0], memory, lengths)
        # In double precision, as FunASR does it: minutes of float32 sums would fire at other frames.
        sums = functional.pad(torch.cumsum(alphas.to(torch.float64), dim=1), (1, 0))
        total = sums[:, -1]
        fired = torch.floor(total)
        count = (fired if self.tail_threshold > 0.0 else torch.round(total)).to(torch.int32)
        # One position more than tokens: in silence nothing is empty, which convolutions do not take.
        positions = torch.arange(count.max() + 1)  # type: ignore[call-overload]
        shares = torch.clamp(sums[:, None, :] - positions[:, None], 0.0, 1.0).to(torch.float32)
        shares = (shares[:, :, 1:] - shares[:, :, :-1]) * length_mask(fired, positions).frames
        return shares @ memory, count, length_mask(count, positions)

    def _with_tail(self, alphas: Tensor, memory: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Append a frame of zeros and of weight ``tail_threshold`` to each utterance, so that its last token fires."""
        if self.tail_threshold <= 0.0:
            return alphas, memory
        if self.tail_mask:
            alphas = functional.pad(alphas, (0, 1))
            behind = torch.arange(alphas.shape[1]) == lengths[:, None]
            alphas = alphas + behind.to(torch.float32) * self.tail_threshold
        else:
            alphas = functional.pad(alphas, (0, 1), value=self.tail_threshold)
        return alphas, functional.pad(memory, (0, 0, 0, 1))


class Timestamps(nn.Module):
    """The second, finer head of a predictor, which says when each token was spoken."""

    def __init__(self, predictor: Any) -> None:
        super().__init__()
        self.context = Context(predictor) if predictor.use_cif1_cnn else None
        self.upsample_cnn = predictor.upsample_cnn
        self.blstm = getattr(predictor, "blstm", None)
        self.cif_output2 = as_float(predictor.cif_output2)
        self.upsample_times = int(predictor.upsample_times)
        self.smooth_factor2 = float(predictor.smooth_factor2)
        self.noise_threshold2 = float(predictor.noise_threshold2)
        self.threshold = float(predictor.threshold) - 1e-4

    def forward(self, memory: Tensor, mask: Mask, count: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and running sums on the fine time scale, both ``[batch, time * upsample_times]``.

        A token starts where the sum passes the threshold. The sums are FunASR's as long as no single weight exceeds
        the threshold, which takes more than one token within a third of a frame.
        """
        context = memory.transpose(1, 2) if self.context is None else self.context(memory)
        output = self.upsample_cnn(context).transpose(1, 2)
        if self.blstm is not None:
            output = self.blstm(output)[0]
        alphas = torch.relu(torch.sigmoid(self.cif_output2(output)) * self.smooth_factor2 - self.noise_threshold2)
        frames = mask.frames.expand(-1, -1, self.upsample_times).reshape(mask.frames.shape[0], -1)
        alphas = alphas[:, :, 0] * frames
        # Silence has no weights to scale; the bound keeps it at zero.
        alphas = alphas * (count / alphas.sum(dim=-1).clamp(min=1e-20))[:, None]
        sums = functional.pad(torch.cumsum(alphas.to(torch.float64), dim=1), (1, 0))
        started = torch.floor(sums[:, :-1] / self.threshold) * self.threshold
        return alphas, (sums[:, 1:] - started).to(torch.float32)
