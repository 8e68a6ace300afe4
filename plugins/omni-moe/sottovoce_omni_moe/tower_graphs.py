"""The towers as graphs: transformers' weights in modules that trace with any size and never branch on data.

What depends on data in transformers' own classes is an input here, which a client computes: audio comes as windows of
chunks, pictures as frames of patches, both filled up with zeros, with the number of what is real in each. So attention
within windows and within frames is a batch with a mask of keys, where the library splits by lengths.
"""

# Calling a module gives Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.errors import UsageError
from sottovoce.formats.float_layers import as_float, on_cpu
from sottovoce.formats.onnx_files import Traceable
from sottovoce.formats.traced_layers import ConvolvedAudio, hidden_behind, split_heads, turned

AUDIO, VISION = "audio_tower", "vision_tower"


class AudioTower(ConvolvedAudio):
    """Chunks of log-mel frames to the embeddings of audio tokens."""

    def __init__(self, tower: Any) -> None:
        super().__init__(tower)
        self.proj1, self.act, self.proj2 = as_float(tower.proj1), tower.act, as_float(tower.proj2)

    def forward(self, chunks: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings ``[windows, positions, width]``, the real ones of a window first.

        Args:
            chunks: Frames ``[windows, chunks, mels, frames]``, zeros behind the last real one.
            lengths: Number of real positions ``[windows]``, int64.
        """
        x = self.embed(chunks.flatten(0, 1))
        x = x.reshape(chunks.shape[0], -1, x.shape[2])
        x = self.attend(x, hidden_behind(lengths, x))
        return self.proj2(self.act(self.proj1(x)))


class VisionAttention(nn.Module):
    """Attention of every patch to the real ones of its frame."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.head_dim, self.scaling = int(attention.head_dim), float(attention.scaling)
        self.qkv, self.proj = as_float(attention.qkv), as_float(attention.proj)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        """Attend; ``x`` is ``[frames, patches, width]``, ``mask`` is added to the scores."""
        query, key, value = (split_heads(part, self.head_dim) for part in self.qkv(x).chunk(3, dim=-1))
        query, key = turned(query, cosine, sine), turned(key, cosine, sine)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scaling)
        return self.proj(attended.transpose(1, 2).flatten(2))


class VisionBlock(nn.Module):
    """Layer of the vision tower."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attn = block.norm1, block.norm2, VisionAttention(block.attn)
        self.linear_fc1, self.act_fn = as_float(block.mlp.linear_fc1), block.mlp.act_fn
        self.linear_fc2 = as_float(block.mlp.linear_fc2)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        """Return as many patches as ``x`` ``[frames, patches, width]``."""
        x = x + self.attn(self.norm1(x), cosine, sine, mask)
        return x + self.linear_fc2(self.act_fn(self.linear_fc1(self.norm2(x))))


class PatchMerger(nn.Module):
    """Patches of a square to one embedding."""

    def __init__(self, merger: Any) -> None:
        super().__init__()
        self.hidden_size, self.is_norm_last = int(merger.hidden_size), bool(merger.use_postshuffle_norm)
        self.ln_q, self.act = merger.ln_q, merger.mlp[1]
        self.linear_1, self.linear_2 = as_float(merger.mlp[0]), as_float(merger.mlp[2])

    def forward(self, x: Tensor) -> Tensor:
        """Turn ``[frames, patches, width]`` into ``[frames, squares, width]``."""
        x = x if self.is_norm_last else self.ln_q(x)
        x = x.reshape(x.shape[0], -1, self.hidden_size)
        x = self.ln_q(x) if self.is_norm_last else x
        return self.linear_2(self.act(self.linear_1(x)))


class VisionTower(nn.Module):
    """Patches of frames to the embeddings of picture tokens, and those that the thinker's first layers read."""

    inv_freq: Tensor
    """Frequencies ``[head width / 4]`` of the rotary embedding."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        convolution = tower.patch_embed.proj
        # Its kernel is the whole patch.
        self.patch_embed = nn.Linear(convolution.weight[0].numel(), convolution.out_channels, device="meta")
        self.patch_embed.weight, self.patch_embed.bias = (
            nn.Parameter(part.detach(), requires_grad=False)
            for part in (convolution.weight.flatten(1), convolution.bias)
        )
        self.pos_embed = as_float(tower.pos_embed)
        self.register_buffer("inv_freq", tower.rotary_pos_emb.inv_freq.float(), persistent=False)
        self.attention_scaling = float(tower.rotary_pos_emb.attention_scaling)
        self.blocks = nn.ModuleList([VisionBlock(block) for block in tower.blocks])
        self.depths = [int(depth) for depth in tower.deepstack_visual_indexes]
        self.merger = PatchMerger(tower.merger)
        self.merger_list = nn.ModuleList([PatchMerger(merger) for merger in tower.merger_list])

    def forward(
        self, patches: Tensor, places: Tensor, shares: Tensor, positions: Tensor, lengths: Tensor
    ) -> tuple[Tensor, ...]:
        """Return embeddings ``[frames, squares, width]``, then those of every depth that is read.

        Args:
            patches: Values ``[frames, patches, values]``, zeros behind the last real patch of a frame.
            places: Entries of the table of positions for each patch ``[frames, patches, 4]``, int64.
            shares: Their weights ``[frames, patches, 4]``.
            positions: Row and column ``[frames, patches, 2]``, int64.
            lengths: Number of real patches ``[frames]``, int64.
        """
        x = self.patch_embed(patches) + (self.pos_embed(places) * shares[..., None]).sum(2)
        angles = (positions[..., None].to(torch.float32) * self.inv_freq).flatten(2)
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        cosine, sine = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        mask, read = hidden_behind(lengths, x), []
        for depth, block in enumerate(self.blocks):
            x = block(x, cosine, sine, mask)
            if depth in self.depths:
                read.append(self.merger_list[self.depths.index(depth)](x))
        return (self.merger(x), *read)


def towers_of(native: Any) -> dict[str, Any]:
    """Return the towers that a model has, by the names of their graphs.

    Raises:
        UsageError: It has none.
    """
    model = native.thinker.model
    towers = {AUDIO: getattr(model, "audio_tower", None), VISION: getattr(model, "visual", None)}
    present = {name: tower for name, tower in towers.items() if tower is not None}
    if not present:
        raise UsageError("the model has neither an audio tower nor a vision tower, so there is nothing to export")
    return present


def graph_of(name: str, tower: Any) -> Traceable[nn.Module]:
    """Return the graph of a tower in float32 on the CPU; the tower is left as it was.

    Compressed layers are in it as the floats that they stand for.

    Raises:
        UsageError: The graph does not have its configuration.
    """
    return _audio(tower) if name == AUDIO else _vision(tower)


def _audio(tower: Any) -> Traceable[nn.Module]:
    frames = 2 * int(tower.n_window)
    chunks = torch.randn((2, 3, tower.num_mel_bins, frames), generator=torch.Generator().manual_seed(0))
    steps = -(-frames // 8)
    return Traceable(
        module=on_cpu(AudioTower(tower)),
        inputs=(chunks, torch.tensor([3 * steps, steps + 1])),
        input_names=("chunks", "lengths"),
        output_names=("features",),
        dynamic_axes={
            "chunks": {0: "windows", 1: "chunks", 3: "frames"},
            "lengths": {0: "windows"},
            "features": {0: "windows", 1: "positions"},
        },
    )


def _vision(tower: Any) -> Traceable[nn.Module]:
    kind = tower.rotary_pos_emb.rope_type
    if kind != "axial" or (tower.interpolation_mode, tower.interpolation_align_corners) != ("bilinear", True):
        raise UsageError(
            f"a vision tower with the rotary embedding {kind!r} and {tower.interpolation_mode} positions cannot be "
            "exported as a graph; run it in transformers"
        )
    module = VisionTower(tower)
    squares = int(tower.spatial_merge_size) ** 2
    random = torch.Generator().manual_seed(0)
    count = 3 * squares
    sizes = (2, count)
    values = torch.randn((*sizes, module.patch_embed.in_features), generator=random)
    places = torch.zeros((*sizes, 4), dtype=torch.int64)
    names = ("patches", "places", "shares", "positions", "lengths")
    outputs = ("features", *(f"depth_{depth}" for depth in module.depths))
    axes = {name: {0: "frames", 1: "patches"} for name in names[:-1]}
    return Traceable(
        module=on_cpu(module),
        inputs=(
            values,
            places,
            torch.full((*sizes, 4), 0.25),
            torch.ones((*sizes, 2), dtype=torch.int64),
            torch.tensor([count, 2 * squares]),
        ),
        input_names=names,
        output_names=outputs,
        dynamic_axes={**axes, "lengths": {0: "frames"}, **dict.fromkeys(outputs, {0: "frames", 1: "squares"})},
    )
