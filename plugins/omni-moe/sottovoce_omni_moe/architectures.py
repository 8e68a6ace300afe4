"""Facts of Qwen3-Omni: the layers to quantize, the layers to leave, and the reasons."""

from __future__ import annotations

from sottovoce import Architecture, CardFacts, Layers, Match, Runner, ScalePair, Training, lazy
from sottovoce.architecture import ExpertLayout
from sottovoce_omni_moe.chinese import CHINESE
from sottovoce_omni_moe.shape import SHAPE

_THINKER = r"thinker\.model\.language_model\.layers\.\d+"
_TALKER = r"talker\.model\.layers\.\d+"
_ATTENTION = r"self_attn\.(q|k|v|o)_proj"
_EXPERT = r"mlp\.experts\.\d+\.(gate|up|down)_proj"

# One pattern for both sides: some of the published models have no talker.
_TARGETS = (rf"re:({_THINKER}|{_TALKER})\.{_ATTENTION}", rf"re:({_THINKER}|{_TALKER})\.{_EXPERT}")
_HEARING = r"thinker\.model\.audio_tower\.layers\.\d+"
_SEEING = r"thinker\.model\.visual\.blocks\.\d+"
_TOWERS = (
    rf"re:{_HEARING}\.(self_attn\.(q|k|v|out)_proj|fc[12])",
    rf"re:{_SEEING}\.(attn\.(qkv|proj)|mlp\.linear_fc[12])",
)

_VALUES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
# What reads the second normalization of a layer: all experts, the router, and the shared expert with its gate.
_MIXTURE = (r"re:mlp\.experts\.\d+\.(gate|up)_proj", "mlp.gate")
_SHARED = ("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj", "mlp.shared_expert_gate")
_LAYER = (
    ScalePair("input_layernorm", _VALUES),
    # Where several query heads share their values, as in the published models, these cannot be scaled.
    ScalePair("self_attn.v_proj", ("self_attn.o_proj",)),
)
_EXPERT_PAIR = ScalePair(r"re:mlp\.experts\.(\d+)\.up_proj", (r"mlp.experts.\1.down_proj",))

_EXAMPLE = """\
content = [{{"type": "audio", "audio": "{audio}"}}, {{"type": "text", "text": "What is said?"}}]
sample = sottovoce.Sample(key="question", messages=[{{"role": "user", "content": content}}])
print(model.architecture.runner.predict(model, sample).text)
"""
_USAGE = """\
import soundfile
from transformers import AutoProcessor, Qwen3OmniMoeForConditionalGeneration
model = Qwen3OmniMoeForConditionalGeneration.from_pretrained("{directory}")
processor = AutoProcessor.from_pretrained("{directory}")
audio, rate = soundfile.read("{audio}", dtype="float32")  # one channel, 16 kHz
content = [{{"type": "audio", "audio": audio}}, {{"type": "text", "text": "What is said?"}}]
batch = processor.apply_chat_template(
    [{{"role": "user", "content": content}}], add_generation_prompt=True, tokenize=True, return_dict=True,
    return_tensors="pt",
).to(model.device, model.dtype)
end = processor.tokenizer.eos_token_id
ids = model.generate(**batch, return_audio=False, thinker_max_new_tokens=256, thinker_eos_token_id=end)
print(processor.batch_decode(ids[:, batch["input_ids"].shape[1]:], skip_special_tokens=True)[0])
"""

OMNI_MOE = Architecture(
    name="qwen3-omni-moe",
    matches=("Qwen3OmniMoeForConditionalGeneration",),
    layers=Layers(
        targets=_TARGETS,
        ignore={
            r"re:.*\.mlp\.gate": "router: decides which experts run",
            r"re:.*shared_expert_gate": "gate of the shared expert",
            r"re:.*\.shared_expert(\..*)?": "shared expert: every token runs it",
            r"re:talker\.(text|hidden)_projection(\..*)?": "projection from the thinker: small, and all "
            "speech passes it",
            r"re:talker\.code_predictor(\..*)?": "code predictor: long speech degrades when it is quantized",
            r"re:code2wav(\..*)?": "vocoder",
            r"re:.*(lm_head|codec_head)": "output layer",
            r"re:.*embed\w*": "embedding table: looked up, not multiplied",
            r"re:.*norm\d?": "normalization",
        },
        ignore_by_default={
            r"re:thinker\.model\.(audio_tower|visual)(\..*)?": "audio and vision towers: the recipe int8-towers "
            "has them"
        },
        weight_only={
            r"re:.*\.mlp\.experts\..*": "experts: transformers stacks them when it loads them, which integers for "
            "inputs do not survive",
        },
        blocks=(f"re:{_HEARING}", f"re:{_SEEING}", f"re:{_THINKER}", f"re:{_TALKER}"),
        # What is not here has an activation between, or is read by what cannot be scaled.
        scale_pairs={
            f"re:{_HEARING}": (
                ScalePair("self_attn_layer_norm", _VALUES),
                ScalePair("self_attn.v_proj", ("self_attn.out_proj",)),
                ScalePair("final_layer_norm", ("fc1",)),
            ),
            f"re:{_SEEING}": (ScalePair("norm1", ("attn.qkv",)), ScalePair("norm2", ("mlp.linear_fc1",))),
            f"re:{_THINKER}": (*_LAYER, ScalePair("post_attention_layernorm", _MIXTURE), _EXPERT_PAIR),
            f"re:{_TALKER}": (*_LAYER, ScalePair("post_attention_layernorm", (*_MIXTURE, *_SHARED)), _EXPERT_PAIR),
        },
        vllm_names={"thinker.model.language_model": "language_model.model"},
        # Of the published models 96 %; without the experts it would be 5 %.
        min_coverage=0.2,
    ),
    experts=(
        ExpertLayout(
            part="thinker",
            experts=rf"re:{_THINKER}\.mlp\.experts",
            count="thinker_config.text_config.num_experts",
            protect={"audio": 0.1},
        ),
        # Quantizing it has been seen to spoil long speech; what pruning does to it is for those who measure it.
        ExpertLayout(
            part="talker",
            experts=rf"re:{_TALKER}\.mlp\.experts",
            count="talker_config.text_config.num_experts",
            pruned=False,
        ),
    ),
    shape=SHAPE,
    training=Training(
        collate=lazy("sottovoce_omni_moe.training:collate"),
        forward=lazy("sottovoce_omni_moe.training:forward"),
        spectrogram=lazy("sottovoce_omni_moe.training:spectrogram"),
        matches={"logits": Match(distance="kl"), "media": Match(distance="squared", weight=0.5)},
        freeze={
            r"re:thinker\..*\.mlp\.gate": "router: without a loss that deals tokens evenly, few experts get all",
            r"re:thinker\.model\.(audio_tower|visual)(\..*)?": "audio and vision towers: they are not pruned, and "
            "what reads them is fitted to them",
            r"re:thinker\..*embed_tokens": "embedding table: the talker reads it too, and tokens that do not "
            "occur would only decay",
            r"re:talker\..*": "talker: it does not run in training",
            r"re:code2wav\..*": "vocoder: it does not run in training",
        },
        labels="an answer",
    ),
    parts={
        "thinker": r"re:thinker\.(model\.language_model|lm_head).*",
        "towers": r"re:thinker\.model\.(audio_tower|visual)\..*",
        "talker": r"re:talker\..*",
        "vocoder": r"re:code2wav\..*",
    },
    task="conversation",
    inputs=("messages",),
    presets={
        "int8-towers": {
            "description": "the towers of audio and images are to be small too",
            "steps": [{"step": "quantize", "targets": [*_TARGETS, *_TOWERS], "min_coverage": 0.2}],
        },
    },
    card=CardFacts(
        pipeline_tag="any-to-any",
        library_name="transformers",
        languages=("en", "zh"),
        usage=_USAGE,
        example=_EXAMPLE,
        hub_usage={"hf": _USAGE.replace("{directory}", "{repository}")},
        translations={"zh": CHINESE},
        packages=("transformers>=5.23", "compressed-tensors", "pillow", "torchvision", "soundfile"),
    ),
    processor=lazy("sottovoce_omni_moe.processor:load_processor"),
    runner=Runner(
        forward=lazy("sottovoce_omni_moe.conversation:forward"),
        predict=lazy("sottovoce_omni_moe.conversation:predict"),
        modalities=lazy("sottovoce_omni_moe.modalities:modalities"),
        answer_logits=lazy("sottovoce_omni_moe.conversation:answer_logits"),
        probe=lazy("sottovoce_omni_moe.conversation:probe"),
    ),
)

ARCHITECTURES = (OMNI_MOE,)
