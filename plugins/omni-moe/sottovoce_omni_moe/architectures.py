"""What the plugin knows of Qwen3-Omni: what to quantize, what to leave, and why."""

from __future__ import annotations

from sottovoce import Architecture, CardFacts, lazy

_ATTENTION = r"self_attn\.(q|k|v|o)_proj"

OMNI_MOE = Architecture(
    name="qwen3-omni-moe",
    matches=("Qwen3OmniMoeForConditionalGeneration",),
    targets=(
        rf"re:thinker\.model\.language_model\.layers\.\d+\.{_ATTENTION}",
        rf"re:talker\.model\.layers\.\d+\.{_ATTENTION}",
    ),
    ignore={
        r"re:.*\.mlp\.experts": "experts: stored together as three-dimensional parameters, which no linear layer holds",
        r"re:.*\.mlp\.gate": "router: decides which experts run",
        r"re:.*shared_expert_gate": "gate of the shared expert",
        r"re:.*\.shared_expert(\..*)?": "shared expert: every token runs it",
        r"re:talker\.(text|hidden)_projection(\..*)?": "projection from the thinker: small, and all speech passes it",
        r"re:(thinker\.model\.)(audio_tower|visual)(\..*)?": "audio and vision towers",
        r"re:talker\.code_predictor(\..*)?": "code predictor: long speech degrades when it is quantized",
        r"re:code2wav(\..*)?": "vocoder",
        r"re:.*(lm_head|codec_head)": "output layer",
        r"re:.*embed\w*": "embedding table: looked up, not multiplied",
        r"re:.*norm\d?": "normalization",
    },
    blocks=(r"re:thinker\.model\.language_model\.layers\.\d+", r"re:talker\.model\.layers\.\d+"),
    parts={
        "thinker": r"re:thinker\.(model\.language_model|lm_head).*",
        "towers": r"re:thinker\.model\.(audio_tower|visual)\..*",
        "talker": r"re:talker\..*",
        "vocoder": r"re:code2wav\..*",
    },
    # Nine tenths of the weights are experts; without them only the attention is left.
    min_coverage=0.01,
    task="conversation",
    card=CardFacts(pipeline_tag="any-to-any", library_name="transformers", languages=("en", "zh")),
    forward=lazy("sottovoce_omni_moe.conversation:forward"),
    predict=lazy("sottovoce_omni_moe.conversation:predict"),
    probe=lazy("sottovoce_omni_moe.conversation:probe"),
)

ARCHITECTURES = (OMNI_MOE,)
