"""The decoders of the graph: plain, with hotwords inside (contextual), and with hotwords beside it (SeACo)."""

# Calling a module gives Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sottovoce_paraformer.onnx_modules import CrossAttention, FeedForward, Mask, Memory, as_float

_FILTERED_HOTWORDS = 50
_FILTER_LAYERS = 6


class DecoderLayer(nn.Module):
    """One block of a decoder: feed-forward, memory over the tokens, attention to the frames; the last two may lack."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.norm1 = layer.norm1
        self.feed_forward = FeedForward(layer.feed_forward)
        self.self_attn: Memory | None = None
        self.src_attn: CrossAttention | None = None
        if layer.self_attn is not None:
            self.norm2, self.self_attn = layer.norm2, Memory(layer.self_attn)
        if layer.src_attn is not None:
            self.norm3, self.src_attn = layer.norm3, CrossAttention(layer.src_attn)

    def remember(self, x: Tensor, tokens: Mask) -> Tensor:
        """Run the block without its attention, ``[batch, tokens, width]`` in and out."""
        fed = self.feed_forward(self.norm1(x))
        return fed if self.self_attn is None else x + self.self_attn(self.norm2(fed), tokens.frames)

    def attend(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Attend to ``memory`` ``[batch, time, width]``; return zero in a block without attention."""
        return torch.zeros_like(x) if self.src_attn is None else self.src_attn(self.norm3(x), memory, mask)

    def weights(self, x: Tensor, tokens: Mask, memory: Tensor) -> Tensor:
        """Return the attention weights ``[batch, heads, tokens, time]`` of a block that has attention."""
        if self.src_attn is None:
            raise TypeError("a block without attention has no weights")
        return self.src_attn.weights(self.norm3(self.remember(x, tokens)), memory)

    def forward(self, x: Tensor, tokens: Mask, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Run the whole block."""
        x = self.remember(x, tokens)
        return x if self.src_attn is None else x + self.attend(x, memory, mask)


class Decoder(nn.Module):
    """All tokens of an utterance at once."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(DecoderLayer(layer) for layer in decoder.decoders)
        self.decoders2 = nn.ModuleList(DecoderLayer(layer) for layer in decoder.decoders2 or ())
        self.decoders3 = nn.ModuleList(DecoderLayer(layer) for layer in decoder.decoders3)
        self.after_norm = decoder.after_norm

    def forward(self, x: Tensor, tokens: Mask, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Return the output layer's input ``[batch, tokens, width]``."""
        for layer in (*self.decoders, *self.decoders2, *self.decoders3):
            x = layer(x, tokens, memory, mask)
        return self.after_norm(x)


class ContextualDecoder(nn.Module):
    """A decoder whose last attention block also looks at hotwords."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(DecoderLayer(layer) for layer in decoder.decoders)
        self.decoders2 = nn.ModuleList(DecoderLayer(layer) for layer in decoder.decoders2 or ())
        self.decoders3 = nn.ModuleList(DecoderLayer(layer) for layer in decoder.decoders3)
        self.after_norm = decoder.after_norm
        self.last_decoder = DecoderLayer(decoder.last_decoder)
        self.bias_norm = decoder.bias_decoder.norm3
        self.bias_decoder = CrossAttention(decoder.bias_decoder.src_attn)
        self.bias_output = decoder.bias_output

    def forward(self, x: Tensor, tokens: Mask, memory: Tensor, mask: Tensor, hotwords: Tensor) -> Tensor:
        """Return the output layer's input ``[batch, tokens, width]``; ``hotwords`` are ``[batch, hotwords, width]``."""
        for layer in self.decoders:
            x = layer(x, tokens, memory, mask)
        last = self.last_decoder
        x = last.remember(x, tokens)
        heard = last.attend(x, memory, mask)
        expected = self.bias_decoder(self.bias_norm(x), hotwords, None)
        both = torch.cat((heard, expected), dim=-1).transpose(1, 2)
        x = x + self.bias_output(both).transpose(1, 2)
        for layer in (*self.decoders2, *self.decoders3):
            x = layer(x, tokens, memory, mask)
        return self.after_norm(x)


class HotwordDecoder(nn.Module):
    """SeACo: a second decoder that attends to hotwords and overrules the first where it hears one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.seaco_decoder = Decoder(model.seaco_decoder)
        self.hotword_output_layer = as_float(model.hotword_output_layer)
        self.no_bias = int(model.NO_BIAS)

    def forward(self, logits: Tensor, hidden: Tensor, x: Tensor, tokens: Mask, hotwords: Tensor) -> Tensor:
        """Return ``logits`` with hotwords written in.

        Args:
            logits: The first decoder's log-probabilities, ``[batch, tokens, vocabulary]``.
            hidden: The decoder's output, ``[batch, tokens + 1, width]``.
            x: The decoder's input, ``[batch, tokens + 1, width]``.
            tokens: Mask of the real tokens.
            hotwords: Their embeddings, ``[batch, hotwords, width]``; the last is "none of them".
        """
        hotwords = self._likely(hidden, tokens, hotwords)
        heard = self.seaco_decoder(x, tokens, hotwords, None)
        merged = heard + self.seaco_decoder(hidden, tokens, hotwords, None)
        biased = torch.log_softmax(self.hotword_output_layer(merged[:, :-1]), dim=-1)
        quiet = biased.argmax(dim=-1, keepdim=True) == self.no_bias
        return torch.where(quiet, logits, biased)

    def _likely(self, hidden: Tensor, tokens: Mask, hotwords: Tensor) -> Tensor:
        """Return the 50 hotwords with the most attention and the last one; of no more than 50, all."""
        layers: list[DecoderLayer] = list(self.seaco_decoder.decoders)  # type: ignore[arg-type]
        if len(layers) < _FILTER_LAYERS:
            return hotwords
        x = hidden
        for layer in layers[: _FILTER_LAYERS - 1]:
            x = layer(x, tokens, hotwords, None)
        weights = layers[_FILTER_LAYERS - 1].weights(x, tokens, hotwords)
        order = torch.argsort(weights[0, :, :-1].sum(dim=(0, 1)), descending=True)
        count = hotwords.shape[1]
        # Cut to the count, the appended last one is dropped exactly when nothing was filtered.
        kept = torch.cat((order[:_FILTERED_HOTWORDS], torch.full_like(order[:1], count - 1)))[:count]
        return hotwords.index_select(1, kept)


class HotwordEncoder(nn.Module):
    """Hotwords as token ids to embeddings, one after each token; the client takes the one after the last."""

    def __init__(self, embedding: nn.Module, encoder: Any) -> None:
        super().__init__()
        self.embedding = embedding
        self.bias_encoder = encoder

    def forward(self, hotword: Tensor) -> Tensor:
        """Turn ids ``[hotwords, tokens]`` into embeddings ``[tokens, hotwords, width]``."""
        return self.bias_encoder(self.embedding(hotword))[0].transpose(0, 1)
