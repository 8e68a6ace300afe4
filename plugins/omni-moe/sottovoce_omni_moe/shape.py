"""Structure of Qwen3-Omni that may be pruned, and the settings by which transformers builds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sottovoce import Depth, Heads, Model, Shape, Width

_GATED = ("gate_proj", "up_proj")


def _deepstack_layers(model: Model) -> Mapping[int, str]:
    """Return the first layers of the thinker, one for each depth at which the vision tower is read."""
    levels = model.native.config.thinker_config.vision_config.deepstack_visual_indexes
    return dict.fromkeys(range(len(levels)), "features of a depth of the vision tower are added to what leaves it")


def _vision_layers(model: Model) -> Mapping[int, str]:
    """Return the layers of the vision tower whose output the thinker reads."""
    levels = model.native.config.thinker_config.vision_config.deepstack_visual_indexes
    return dict.fromkeys(levels, "the thinker reads what leaves it")


def key_value_heads(attention: Any) -> int:
    """Return the number of heads of keys and values, each of which goes with the query heads that share it."""
    return int(attention.k_proj.out_features) // int(attention.head_dim)


SHAPE = Shape(
    widths=(
        Width(
            part="thinker",
            modules=r"re:thinker\.model\.language_model\.layers\.\d+\.mlp\.experts\.\d+",
            inputs=_GATED,
            output="down_proj",
            keys=("thinker_config.text_config.moe_intermediate_size",),
        ),
        Width(
            part="talker",
            modules=r"re:talker\.model\.layers\.\d+\.mlp\.experts\.\d+",
            inputs=_GATED,
            output="down_proj",
            keys=("talker_config.text_config.moe_intermediate_size",),
            # What it does to speech is for those who measure it.
            pruned=False,
        ),
        Width(
            part="audio tower",
            modules=r"re:thinker\.model\.audio_tower\.layers\.\d+",
            inputs=("fc1",),
            output="fc2",
            keys=("thinker_config.audio_config.encoder_ffn_dim",),
            is_last=True,
            pruned=False,
        ),
        Width(
            part="vision tower",
            modules=r"re:thinker\.model\.visual\.blocks\.\d+\.mlp",
            inputs=("linear_fc1",),
            output="linear_fc2",
            keys=("thinker_config.vision_config.intermediate_size",),
            is_last=True,
            pruned=False,
        ),
    ),
    depths=(
        Depth(
            part="thinker",
            layers="thinker.model.language_model.layers",
            # The layers of a mixture have no last projection in common.
            output="self_attn.o_proj",
            keys=("thinker_config.text_config.num_hidden_layers",),
            # The talker reads the hidden states that enter this layer.
            positions=("talker_config.accept_hidden_layer",),
            number_attributes=("layer_idx",),
            keep=_deepstack_layers,
        ),
        Depth(
            part="audio tower",
            layers="thinker.model.audio_tower.layers",
            output="fc2",
            keys=("thinker_config.audio_config.encoder_layers",),
            pruned=False,
        ),
        Depth(
            part="vision tower",
            layers="thinker.model.visual.blocks",
            output="mlp.linear_fc2",
            keys=("thinker_config.vision_config.depth",),
            positions=("thinker_config.vision_config.deepstack_visual_indexes",),
            keep=_vision_layers,
            pruned=False,
        ),
    ),
    heads=(
        Heads(
            part="thinker",
            modules=r"re:thinker\.model\.language_model\.layers\.\d+\.self_attn",
            rows=("q_proj", "k_proj", "v_proj"),
            output="o_proj",
            groups=key_value_heads,
            keys=("thinker_config.text_config.num_attention_heads", "thinker_config.text_config.num_key_value_heads"),
            # What it does to answers is for those who measure it.
            pruned=False,
        ),
        Heads(
            part="talker",
            modules=r"re:talker\.model\.layers\.\d+\.self_attn",
            rows=("q_proj", "k_proj", "v_proj"),
            output="o_proj",
            groups=key_value_heads,
            keys=("talker_config.text_config.num_attention_heads", "talker_config.text_config.num_key_value_heads"),
            # What it does to speech is for those who measure it.
            pruned=False,
        ),
    ),
)
