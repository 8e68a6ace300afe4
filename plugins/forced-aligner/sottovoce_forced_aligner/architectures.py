"""What the plugin knows of the forced aligner: what to quantize, what to leave, and why."""

from __future__ import annotations

from sottovoce import Architecture, CardFacts, lazy

_AUDIO = r"re:model\.audio_tower\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|fc[12])"
_TEXT = r"re:model\.language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
_PROJECTOR = r"re:model\.multi_modal_projector\.(linear_\d+|proj\w*|fc\w*)"

FORCED_ALIGNER = Architecture(
    name="qwen3-forced-aligner",
    matches=("Qwen3ASRForTokenClassification",),
    targets=(_AUDIO, _PROJECTOR, _TEXT),
    ignore={
        "score": "output layer: a near tie moves a word boundary by many 80 ms bins",
        r"re:.*embed_tokens": "embedding table: looked up, not multiplied",
        r"re:.*\.ln_post": "normalization",
        r"re:model\.audio_tower\.conv.*": "convolutional stem: 1 % of the weights",
        r"re:.*norm\d?": "normalization",
    },
    blocks=(r"re:model\.audio_tower\.layers\.\d+", r"re:model\.language_model\.layers\.\d+"),
    parts={
        "audio": r"re:model\.audio_tower\..*",
        "projector": r"re:model\.multi_modal_projector\..*",
        "embedding": r"re:.*embed_tokens.*",
        "text": r"re:model\.language_model\..*",
        "output": r"re:score.*",
    },
    min_coverage=0.5,
    task="alignment",
    card=CardFacts(
        pipeline_tag="audio-token-classification",
        library_name="transformers",
        languages=("zh", "en", "yue", "fr", "de", "it", "ja", "ko", "pt", "ru", "es"),
    ),
    forward=lazy("sottovoce_forced_aligner.alignment:forward"),
    predict=lazy("sottovoce_forced_aligner.alignment:predict"),
    probe=lazy("sottovoce_forced_aligner.alignment:probe"),
)

ARCHITECTURES = (FORCED_ALIGNER,)
