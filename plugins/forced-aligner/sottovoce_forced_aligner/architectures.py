"""Facts of the forced aligner: the layers to quantize, the layers to leave, and the reasons."""

from __future__ import annotations

from sottovoce import Architecture, CardFacts, Layers, Match, Runner, ScalePair, Training, lazy
from sottovoce_forced_aligner.chinese import CHINESE
from sottovoce_forced_aligner.languages import LANGUAGES
from sottovoce_forced_aligner.shape import SHAPE

_AUDIO = r"re:model\.audio_tower\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|fc[12])"
_TEXT = r"re:model\.language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
_PROJECTOR = r"re:model\.multi_modal_projector\.(linear_\d+|proj\w*|fc\w*)"

_AUDIO_LAYER = r"re:model\.audio_tower\.layers\.\d+"
_TEXT_LAYER = r"re:model\.language_model\.layers\.\d+"

_USAGE = """\
import soundfile, torch
from transformers import AutoProcessor, Qwen3ASRForTokenClassification
model = Qwen3ASRForTokenClassification.from_pretrained("{directory}")
processor = AutoProcessor.from_pretrained("{directory}")
audio, rate = soundfile.read("{audio}", dtype="float32")  # one channel, 16 kHz
batch, words = processor.prepare_forced_aligner_inputs(audio=audio, transcript="{text}", language="Chinese")
batch = batch.to(model.device, model.dtype)
with torch.inference_mode():
    logits = model(**batch).logits
print(processor.decode_forced_alignment(logits, batch["input_ids"], words, model.config.timestamp_token_id)[0])
"""

FORCED_ALIGNER = Architecture(
    name="qwen3-forced-aligner",
    # qwen-asr names the second for the recognizer too, which the loader refuses.
    matches=("Qwen3ASRForTokenClassification", "Qwen3ASRForConditionalGeneration"),
    layers=Layers(
        targets=(_AUDIO, "model.audio_tower.conv_out", _PROJECTOR, _TEXT),
        ignore={
            "score": "output layer: a near tie moves a word boundary by many 80 ms bins",
            r"re:.*embed_tokens": "embedding table: looked up, not multiplied",
            r"re:.*\.ln_post": "normalization",
            r"re:model\.audio_tower\.conv2d\d": "convolutional stem: half a percent of the weights",
            r"re:.*norm\d?": "normalization",
        },
        weight_only={
            "model.audio_tower.conv_out": "all audio passes it, and its inputs have a wide range: rounded, they move "
            "as many boundaries as all other layers together, nearly",
            _PROJECTOR: "all audio passes it",
            # Their gate and up projections round: two fifths of a layer's products, and among the least sensitive.
            r"re:model\.language_model\.layers\.[01]\.(self_attn\.(q|k|v|o)_proj|mlp\.down_proj)": "first text "
            "layers: their inputs have a wide range, and what is rounded in them passes through all others",
        },
        blocks=(_AUDIO_LAYER, _TEXT_LAYER),
        scale_pairs={
            _AUDIO_LAYER: (
                ScalePair("self_attn_layer_norm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                ScalePair("self_attn.v_proj", ("self_attn.out_proj",)),
                ScalePair("final_layer_norm", ("fc1",)),
            ),
            # Values are shared by several query heads, so they cannot be scaled for the output projection.
            _TEXT_LAYER: (
                ScalePair("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                ScalePair("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
                ScalePair("mlp.up_proj", ("mlp.down_proj",)),
            ),
        },
        min_coverage=0.5,
    ),
    shape=SHAPE,
    training=Training(
        collate=lazy("sottovoce_forced_aligner.training:collate"),
        forward=lazy("sottovoce_forced_aligner.training:forward"),
        spectrogram=lazy("sottovoce_forced_aligner.training:spectrogram"),
        matches={
            "logits": Match(distance="kl"),
            # A divergence is as large for the next bin as for the last one; a near tie should move one bin, not many.
            "order": Match(distance="earth_mover", of="logits", weight=0.1),
            "audio": Match(distance="squared"),
        },
        freeze={r"re:.*embed_tokens": "embedding table: most tokens do not occur in the samples, and would only decay"},
        labels="words",
    ),
    parts={
        "audio": r"re:model\.audio_tower\..*",
        "projector": r"re:model\.multi_modal_projector\..*",
        "embedding": r"re:.*embed_tokens.*",
        "text": r"re:model\.language_model\..*",
        "output": r"re:score.*",
    },
    task="alignment",
    inputs=("audio", "text"),
    card=CardFacts(
        pipeline_tag="audio-token-classification",
        library_name="transformers",
        languages=tuple(LANGUAGES),
        usage=_USAGE,
        example='from sottovoce_forced_aligner import align\nprint(align(model, "{audio}", "{text}").to_srt())\n',
        hub_usage={"hf": _USAGE.replace("{directory}", "{repository}")},
        translations={"zh": CHINESE},
        packages=("transformers>=5.23", "compressed-tensors", "soundfile"),
    ),
    runner=Runner(
        forward=lazy("sottovoce_forced_aligner.inference:forward"),
        predict=lazy("sottovoce_forced_aligner.inference:predict"),
        align=lazy("sottovoce_forced_aligner.aligner:word_times"),
        probe=lazy("sottovoce_forced_aligner.inference:probe"),
        optimize_for_inference=lazy("sottovoce_forced_aligner.optimization:optimize_for_inference"),
    ),
)

ARCHITECTURES = (FORCED_ALIGNER,)
