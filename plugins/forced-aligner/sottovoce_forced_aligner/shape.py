"""Structure of the forced aligner that may be pruned, and the settings by which transformers builds it."""

from __future__ import annotations

from sottovoce import Depth, Shape, Width

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
)
