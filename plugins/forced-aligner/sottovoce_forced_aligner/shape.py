"""Structure of the forced aligner that may be pruned, and the settings by which transformers builds it."""

from __future__ import annotations

from typing import Any

from sottovoce import Depth, Heads, Shape, Width


def key_value_heads(attention: Any) -> int:
    """Return the number of heads of keys and values, each of which goes with the query heads that share it."""
    return int(attention.k_proj.out_features) // int(attention.head_dim)


SHAPE = Shape(
    widths=(
        Width(
            part="audio",
            modules=r"re:model\.audio_tower\.layers\.\d+",
            inputs=("fc1",),
            output="fc2",
            keys=("audio_config.encoder_ffn_dim",),
            is_last=True,
        ),
        Width(
            part="text",
            modules=r"re:model\.language_model\.layers\.\d+\.mlp",
            inputs=("gate_proj", "up_proj"),
            output="down_proj",
            keys=("text_config.intermediate_size",),
            is_last=True,
        ),
    ),
    depths=(
        Depth(
            part="audio",
            layers="model.audio_tower.layers",
            output="fc2",
            keys=("audio_config.encoder_layers",),
        ),
        Depth(
            part="text",
            layers="model.language_model.layers",
            output="mlp.down_proj",
            keys=("text_config.num_hidden_layers",),
            lists=("text_config.layer_types",),
            number_attributes=("layer_idx",),
        ),
    ),
    heads=(
        Heads(
            part="text",
            modules=r"re:model\.language_model\.layers\.\d+\.self_attn",
            rows=("q_proj", "k_proj", "v_proj"),
            output="o_proj",
            groups=key_value_heads,
            keys=("text_config.num_attention_heads", "text_config.num_key_value_heads"),
            # Few heads of keys and values serve all queries: without training, losing half of them moves most
            # boundaries.
            pruned=False,
        ),
    ),
)
