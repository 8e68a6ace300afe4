"""Structure of Qwen3-Omni that may be pruned, and the settings by which transformers builds it."""

from __future__ import annotations

from sottovoce import Shape, Width

_GATED = ("gate_proj", "up_proj")

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
)
