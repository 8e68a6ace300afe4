"""The recognizer in two halves for ExecuTorch, and what the host computes between them.

How many tokens an utterance has decides the size of everything behind the predictor, which ExecuTorch cannot plan for.
So the first half gives the weights of the frames, the host adds them up, and the second half takes one embedding for
each token. Both take one utterance, without padding.
"""

from __future__ import annotations

from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sottovoce_paraformer.onnx_graphs import Recognizer
from sottovoce_paraformer.onnx_modules import Mask


class EncoderHalf(nn.Module):
    """Features to frames and their weights."""

    one: Tensor
    zero: Tensor

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        predictor = recognizer.predictor
        self.encoder = recognizer.encoder
        self.context, self.cif_output = predictor.context, predictor.cif_output
        self.smooth_factor, self.noise_threshold = predictor.smooth_factor, predictor.noise_threshold
        self.register_buffer("one", torch.ones(1, 1, 1))
        self.register_buffer("zero", torch.zeros(1, 1, 1, 1))

    def forward(self, speech: Tensor) -> tuple[Tensor, Tensor]:
        """Turn ``[1, time, features]`` into frames ``[1, time, width]`` and weights ``[1, time]``."""
        memory = self.encoder(speech, torch.arange(speech.shape[1]), Mask(self.one, self.zero))
        weights = torch.sigmoid(self.cif_output(self.context(memory).transpose(1, 2)))
        return memory, torch.relu(weights * self.smooth_factor - self.noise_threshold)[:, :, 0]


class DecoderHalf(nn.Module):
    """Embeddings of tokens and frames to log-probabilities."""

    one: Tensor
    zero: Tensor

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.decoder, self.output_layer = recognizer.decoder, recognizer.output_layer
        self.register_buffer("one", torch.ones(1, 1, 1))
        self.register_buffer("zero", torch.zeros(1, 1, 1, 1))

    def forward(self, embeddings: Tensor, memory: Tensor) -> Tensor:
        """Turn ``[1, tokens, width]`` and frames ``[1, time, width]`` into ``[1, tokens, vocabulary]``."""
        hidden = self.decoder(embeddings, Mask(self.one, self.zero), memory, None)
        return torch.log_softmax(self.output_layer(hidden), dim=-1)


def gather(memory: NDArray[Any], alphas: NDArray[Any], tail_threshold: float) -> NDArray[Any]:
    """Return one embedding for each token, as the predictor of the whole graph does.

    Args:
        memory: Frames ``[time, width]``.
        alphas: Their weights ``[time]``.
        tail_threshold: Weight of a frame of zeros behind the last, so that the last token fires; 0 for none.

    Returns:
        Embeddings ``[tokens, width]``.
    """
    if tail_threshold > 0.0:
        alphas = numpy.append(alphas, tail_threshold)
        memory = numpy.pad(memory, ((0, 1), (0, 0)))
    sums = numpy.append(0.0, numpy.cumsum(alphas, dtype=numpy.float64))
    fired = numpy.floor(sums[-1])
    positions = numpy.arange(int(fired if tail_threshold > 0.0 else numpy.rint(sums[-1])))[:, None]
    shares = numpy.diff(numpy.clip(sums - positions, 0.0, 1.0)) * (positions < fired)
    embeddings: NDArray[Any] = shares.astype(numpy.float32) @ memory
    return embeddings
