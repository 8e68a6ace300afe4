"""The graphs that FunASR's clients expect, put together from FunASR's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce_paraformer.onnx_decoders import ContextualDecoder, Decoder, HotwordDecoder, HotwordEncoder
from sottovoce_paraformer.onnx_modules import Encoder, as_float, length_mask
from sottovoce_paraformer.onnx_predictor import Predictor, Timestamps

_AXES: Mapping[str, Mapping[int, str]] = {
    "speech": {0: "batch_size", 1: "feats_length"},
    "speech_lengths": {0: "batch_size"},
    "bias_embed": {0: "batch_size", 1: "num_hotwords"},
    "logits": {0: "batch_size", 1: "logits_length"},
    "token_num": {0: "batch_size"},
    "us_alphas": {0: "batch_size", 1: "alphas_length"},
    "us_cif_peak": {0: "batch_size", 1: "alphas_length"},
    "hotword": {0: "num_hotwords"},
    "hw_embed": {1: "num_hotwords"},
}
_HOTWORD_TOKENS = 10


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A module to trace, with example inputs and the names that clients know."""

    name: str
    """File name without suffix."""
    module: nn.Module
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    @property
    def dynamic_axes(self) -> dict[str, Mapping[int, str]]:
        """The axes of any length."""
        return {name: _AXES[name] for name in (*self.input_names, *self.output_names)}


class Recognizer(nn.Module):
    """Features to log-probabilities of tokens, and where the model has them to timestamps."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = Encoder(model.encoder)
        self.predictor = Predictor(model.predictor)
        self.timestamps = Timestamps(model.predictor) if hasattr(model.predictor, "upsample_cnn") else None
        contextual = hasattr(model.decoder, "bias_decoder")
        self.decoder = ContextualDecoder(model.decoder) if contextual else Decoder(model.decoder)
        self.output_layer = as_float(model.decoder.output_layer)
        self.hotwords = HotwordDecoder(model) if hasattr(model, "seaco_decoder") else None

    def forward(self, speech: Tensor, speech_lengths: Tensor, bias_embed: Tensor | None = None) -> tuple[Tensor, ...]:
        """Recognize.

        Args:
            speech: Features ``[batch, time, features]``.
            speech_lengths: Numbers of real frames, ``[batch]``.
            bias_embed: Hotwords ``[batch, hotwords, width]``, for the classes that take them.

        Returns:
            Log-probabilities ``[batch, tokens, vocabulary]``, the number of tokens ``[batch]`` as int32, and from
            models with timestamps the weights and sums ``[batch, 3 * time]`` on the fine time scale.
        """
        positions = torch.arange(speech.shape[1])
        frames = length_mask(speech_lengths, positions)
        memory = self.encoder(speech, positions, frames)
        embeddings, count, tokens = self.predictor(memory, frames, speech_lengths)
        context = (bias_embed,) if isinstance(self.decoder, ContextualDecoder) else ()
        hidden = self.decoder(embeddings, tokens, memory, frames.scores, *context)
        logits = torch.log_softmax(self.output_layer(hidden[:, :-1]), dim=-1)
        if self.hotwords is not None:
            logits = self.hotwords(logits, hidden, embeddings, tokens, bias_embed)
        times = () if self.timestamps is None else self.timestamps(memory, frames, count)
        return logits, count, *times


def graphs(model: Any) -> tuple[Graph, ...]:
    """Return the graphs of a FunASR model: the recognizer and, where hotwords are known, their encoder."""
    recognizer = Recognizer(model)
    outputs = ("logits", "token_num", *(("us_alphas", "us_cif_peak") if recognizer.timestamps is not None else ()))
    # Two entries of different length and more than one hotword: an example of 1 would be taken for a constant.
    random = torch.Generator().manual_seed(0)
    speech = torch.randn(2, 30, recognizer.encoder.width, generator=random)
    inputs: tuple[Tensor, ...] = (speech, torch.tensor([12, 30], dtype=torch.int32))
    names: tuple[str, ...] = ("speech", "speech_lengths")
    if not hasattr(model, "bias_encoder"):
        return (Graph(name="model", module=recognizer, inputs=inputs, input_names=names, output_names=outputs),)
    width = int(model.bias_encoder.hidden_size)
    has_table = hasattr(model, "bias_embed") and not getattr(model, "use_decoder_embedding", False)
    table = as_float(model.bias_embed if has_table else model.decoder.embed[0])
    encoder = HotwordEncoder(table, model.bias_encoder)
    return (
        Graph(
            name="model",
            module=recognizer,
            inputs=(*inputs, torch.randn(2, 3, width, generator=random)),
            input_names=(*names, "bias_embed"),
            output_names=outputs,
        ),
        Graph(
            name="model_eb",
            module=encoder,
            inputs=(torch.ones(3, _HOTWORD_TOKENS, dtype=torch.int32),),
            input_names=("hotword",),
            output_names=("hw_embed",),
        ),
    )
