"""The recognizer for engines without float64 and without shapes that depend on data.

There are as many token positions as frames, which no utterance exceeds; those behind the last token are masked, and
the client cuts them off. The sums of the predictor are whole numbers in float32, so that they are exact.
"""

# Calling a module gives Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sottovoce.errors import UsageError
from sottovoce_paraformer.onnx_graphs import Graph, Recognizer, graphs
from sottovoce_paraformer.onnx_modules import Mask, length_mask
from sottovoce_paraformer.onnx_predictor import Predictor

_DIGIT = 2048.0
"""Weights are rounded to multiples of ``1 / 2048 ** 2``: two digits of 11 bits, as many as TF32 has."""
LONGEST = 8192
"""Frames whose digits sum up exactly in float32, which has whole numbers up to 2 ** 24."""


def exact_sums(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the running sums of weights as whole numbers and fractions, without float64 and without any rounding.

    Args:
        weights: Float32 ``[batch, time]``, from 0 to 1; they are rounded to 22 bits.

    Returns:
        Whole numbers and fractions from 0 to below 1, both float32 ``[batch, time]``.
    """
    steps = torch.round(weights * _DIGIT * _DIGIT)
    high = torch.floor(steps / _DIGIT)
    low = steps - high * _DIGIT
    # Sums of whole numbers below 2 ** 24 are exact, in any order of adding.
    high, low = torch.cumsum(high, dim=1), torch.cumsum(low, dim=1)
    carried = torch.floor(low / _DIGIT)
    low = low - carried * _DIGIT
    high = high + carried
    whole = torch.floor(high / _DIGIT)
    return whole, (high - whole * _DIGIT) / _DIGIT + low / (_DIGIT * _DIGIT)


class BoundedPredictor(Predictor):
    """A predictor with as many positions as frames."""

    def forward(self, memory: Tensor, mask: Mask, lengths: Tensor) -> tuple[Tensor, Tensor, Mask]:
        """Turn the encoder's frames into embeddings, as :class:`Predictor` does.

        Returns:
            Embeddings ``[batch, frames + 1, width]``, the number of tokens ``[batch]`` as int32, and which positions
            are real. Frames are one more than the encoder's where the model appends a tail.
        """
        scores = torch.sigmoid(self.cif_output(self.context(memory).transpose(1, 2)))
        alphas = torch.relu(scores * self.smooth_factor - self.noise_threshold) * mask.frames
        alphas, memory = self._with_tail(alphas[:, :, 0], memory, lengths)
        whole, fraction = exact_sums(alphas)
        fired, rest = whole[:, -1], fraction[:, -1]
        count = fired if self.tail_threshold > 0.0 else fired + torch.round(rest)
        positions = torch.arange(memory.shape[1] + 1)
        before = functional.pad(whole, (1, 0)), functional.pad(fraction, (1, 0))
        shares = torch.clamp((before[0][:, None, :] - positions[:, None]) + before[1][:, None, :], 0.0, 1.0)
        shares = (shares[:, :, 1:] - shares[:, :, :-1]) * length_mask(fired, positions).frames
        return shares @ memory, count.to(torch.int32), length_mask(count, positions)


class BoundedRecognizer(Recognizer):
    """Features to log-probabilities ``[batch, frames, vocabulary]`` and the number of tokens; without timestamps."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.predictor = BoundedPredictor(model.predictor)
        self.timestamps = None


def bounded_graph(model: Any) -> Graph:
    """Return the graph of a FunASR model with static bounds.

    Raises:
        UsageError: The model takes hotwords, of which there may be any number.
    """
    if hasattr(model, "bias_encoder"):
        name = type(model).__name__
        raise UsageError(f"a {name} takes hotwords, of which the number is not bounded; export it as onnx")
    (graph,) = graphs(model)
    return Graph(
        name=graph.name,
        module=BoundedRecognizer(model),
        inputs=graph.inputs,
        input_names=graph.input_names,
        output_names=("logits", "token_num"),
    )
