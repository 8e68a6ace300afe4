"""The aligner as a graph: transformers' weights in modules that trace with any length and never branch on data.

Three things in transformers' own classes depend on data, and are written otherwise here. Frames are padded to whole
attention windows, so windows are a batch with a mask of keys, where the library splits by lengths. The real audio
positions come first, so the n-th audio token takes the n-th position, where the library scatters by a mask. Rotary
embedding and causal mask are written out.
"""

# Calling a module gives Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.errors import UsageError
from sottovoce.formats.float_layers import as_float, on_cpu
from sottovoce.formats.onnx_files import Traceable
from sottovoce.formats.traced_layers import ConvolvedAudio, mask_of
from sottovoce_forced_aligner.graph_layers import TextLayer, rms_norm_of

_WORDS = 3

INPUTS = ("input_features", "frames", "input_ids")
OUTPUTS = ("logits",)


class AudioTower(ConvolvedAudio):
    """Features to the embeddings of the audio tokens."""

    def __init__(self, tower: Any, projector: Any) -> None:
        super().__init__(tower)
        self.chunk = tower.n_window * 2
        self.chunks = tower.n_window_infer // self.chunk
        self.linear_1, self.act = as_float(projector.linear_1), projector.act
        self.linear_2 = as_float(projector.linear_2)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Embed features ``[1, mels, windows * frames of a window]``, of which ``frames`` ``[1]`` are real.

        Returns:
            ``[windows * positions of a window, width]``; the real ones come first.
        """
        x = self.embed(features.reshape(features.shape[1], -1, self.chunk).transpose(0, 1))
        steps, width = x.shape[1], x.shape[2]
        x = x.reshape(-1, self.chunks * steps, width)
        valid = frames // self.chunk * steps + _pooled(frames % self.chunk)
        places = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(x.shape[0], 1, 1, x.shape[1])
        x = self.attend(x, mask_of(places >= valid)).flatten(0, 1)
        return self.linear_2(self.act(self.linear_1(x)))


class AlignerGraph(nn.Module):
    """Features and tokens to the logits of every position."""

    inv_freq: Tensor
    """Frequencies ``[head width / 2]`` of the rotary embedding."""

    def __init__(self, native: Any) -> None:
        """Take the layers of a ``Qwen3ASRForTokenClassification``.

        Raises:
            UsageError: Its configuration is one that the graph does not have.
        """
        super().__init__()
        _refuse_unsupported(native)
        text = native.model.language_model
        self.audio_tower = AudioTower(native.model.audio_tower, native.model.multi_modal_projector)
        self.embed_tokens = as_float(text.embed_tokens)
        self.layers = nn.ModuleList([TextLayer(layer) for layer in text.layers])
        self.norm, self.score = rms_norm_of(text.norm), as_float(native.score)
        self.register_buffer("inv_freq", text.rotary_emb.inv_freq.float(), persistent=False)
        self.attention_scaling = float(text.rotary_emb.attention_scaling)
        self.audio_token = int(native.config.audio_token_id)

    def forward(self, input_features: Tensor, frames: Tensor, input_ids: Tensor) -> Tensor:
        """Return logits ``[1, tokens, bins]``.

        Args:
            input_features: Log-mel features ``[1, mels, frames]``, padded with zeros to whole attention windows.
            frames: Number of real frames ``[1]``, int64.
            input_ids: Tokens ``[1, tokens]``, int64, with as many audio tokens as real audio positions.
        """
        audio = self.audio_tower(input_features, frames)
        # Counted in floats, which are whole numbers up to 2 ** 24: TensorRT sums no integers.
        is_audio = (input_ids[0] == self.audio_token).to(torch.float32)
        places = (torch.cumsum(is_audio, dim=0) - 1).clamp(min=0).to(torch.int64)
        x = torch.where(is_audio[:, None] > 0, audio[places], self.embed_tokens(input_ids)[0])[None]
        order = torch.arange(x.shape[1], device=x.device)
        mask = mask_of(order[None] > order[:, None])[None, None]
        angles = order[:, None].to(torch.float32) * self.inv_freq
        angles = torch.cat((angles, angles), dim=-1)
        cosine, sine = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        for layer in self.layers:
            x = layer(x, cosine, sine, mask)
        return self.score(self.norm(x))


def graph_of(native: Any) -> Traceable[AlignerGraph]:
    """Return the graph of a model in float32 on the CPU; the model is left as it was.

    Compressed layers are in it as the floats that they stand for.

    Raises:
        UsageError: The configuration is one that the graph does not have.
    """
    module = on_cpu(AlignerGraph(native))
    assert isinstance(module, AlignerGraph)
    tower = module.audio_tower
    return Traceable(
        module=module,
        inputs=example_inputs(native.config),
        input_names=INPUTS,
        output_names=OUTPUTS,
        # Frames are those of whole attention windows.
        dynamic_axes={
            "input_features": {2: f"{tower.chunk * tower.chunks}*windows"},
            "input_ids": {1: "tokens"},
            "logits": {1: "tokens"},
        },
    )


def example_inputs(config: Any, windows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Return random features of some windows, the last of them not full, with the tokens of a few words."""
    audio = config.audio_config
    size = audio.n_window_infer
    random = torch.Generator().manual_seed(0)
    features = torch.randn((1, audio.num_mel_bins, windows * size), generator=random)
    chunk = 2 * audio.n_window
    frames = windows * size - chunk // 2
    count = frames // chunk * _pooled(chunk) + _pooled(frames % chunk)
    words = [0, config.timestamp_token_id, config.timestamp_token_id] * _WORDS
    ids = torch.tensor([[config.audio_token_id] * count + words])
    return features, torch.tensor([frames]), ids


def _pooled(frames: Any) -> Any:
    """Return the positions of a chunk's frames after three convolutions, each of which halves them."""
    return (frames + 7) // 8


def _refuse_unsupported(native: Any) -> None:
    text, audio = native.config.text_config, native.config.audio_config
    rope = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    problem = None
    if any(kind != "full_attention" for kind in getattr(text, "layer_types", None) or ()):
        problem = "attention that slides over the text"
    elif rope != "default":
        problem = f"the rotary embedding {rope!r}"
    elif audio.n_window_infer % (2 * audio.n_window):
        problem = "attention windows that are not whole chunks"
    if problem is not None:
        raise UsageError(f"an aligner with {problem} cannot be exported as a graph; run it in transformers")
