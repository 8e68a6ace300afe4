"""Facts of the Paraformer family: the layers to quantize, the layers to leave, and the reasons."""

from __future__ import annotations

from sottovoce import Architecture, CardFacts, Layers, Match, Runner, ScalePair, Training, lazy
from sottovoce_paraformer.aliases import resolve
from sottovoce_paraformer.chinese import CHINESE
from sottovoce_paraformer.configuration import REGISTER
from sottovoce_paraformer.sections import PUNCTUATION as PUNCTUATION_CLASSES
from sottovoce_paraformer.sections import RECOGNIZERS
from sottovoce_paraformer.sections import SPEAKERS as SPEAKER_CLASSES
from sottovoce_paraformer.sections import VOICE_ACTIVITY as VOICE_ACTIVITY_CLASSES
from sottovoce_paraformer.shape import SHAPE

_ATTENTION = r"self_attn\.linear_(q_k_v|out)"
_CROSS_ATTENTION = r"src_attn\.linear_(q|k_v|out)"
_FEED_FORWARD = r"feed_forward\.w_[12]"
_ENCODER_LAYER = r"re:encoder\.encoders0?\.\d+"
_ENCODER_PAIRS = (
    ScalePair("norm1", ("self_attn.linear_q_k_v",)),
    ScalePair("norm2", ("feed_forward.w_1",)),
    ScalePair("feed_forward.w_1", ("feed_forward.w_2",)),
)
_DECODER_LAYER = r"re:(seaco_)?decoder\.(decoders[23]?\.\d+|last_decoder)"


def _names(*classes: str) -> tuple[str, ...]:
    return (*classes, *(f"{REGISTER}.{name}" for name in classes))


def _usage(model: str) -> str:
    return f"""\
import {REGISTER}
from funasr import AutoModel
asr = AutoModel({model}, disable_update=True, disable_pbar=True)
print(asr.generate(input="{{audio}}")[0]["text"])
"""


PARAFORMER = Architecture(
    name="paraformer",
    matches=_names(*RECOGNIZERS),
    layers=Layers(
        targets=(
            rf"re:encoder\.encoders0?\.\d+\.({_ATTENTION}|{_FEED_FORWARD})",
            # The table of characters too: training looks them up, and hotwords; recognition alone does not.
            rf"re:(seaco_)?decoder\.(embed\.0|(decoders[23]?\.\d+|last_decoder)\.({_CROSS_ATTENTION}|{_FEED_FORWARD}))",
        ),
        ignore={
            r"re:.*\.fsmn_block": "FSMN memory: a depthwise convolution, 0.1 % of the weights",
            r"re:predictor(\..*)?": "CIF predictor: its weights add up to the number of tokens, so a small error "
            "drops one",
            r"re:(.*\.)?(hotword_)?output_layer": "output layer: near ties between characters; FunASR's int8 "
            "keeps it too",
            r"re:bias_embed(\..*)?": "embedding table: looked up, not multiplied",
            r"re:(bias_encoder|lstm_proj|decoder\.bias_(decoder|output))(\..*)?": "hotword path: as FunASR's int8 "
            "keeps it",
            r"re:.*norm\d?": "normalization",
        },
        blocks=(_ENCODER_LAYER, _DECODER_LAYER),
        scale_pairs={
            _ENCODER_LAYER: _ENCODER_PAIRS,
            # A normalization lies between the two products of a decoder's feed-forward layer.
            _DECODER_LAYER: (
                ScalePair("norm1", ("feed_forward.w_1",)),
                ScalePair("feed_forward.norm", ("feed_forward.w_2",)),
                ScalePair("norm3", ("src_attn.linear_q",)),
            ),
        },
        activation_strategy="tensor",
        min_coverage=0.6,
    ),
    shape=SHAPE,
    training=Training(
        collate=lazy("sottovoce_paraformer.training:collate"),
        forward=lazy("sottovoce_paraformer.training:forward"),
        spectrogram=lazy("sottovoce_paraformer.training:spectrogram"),
        matches={
            "logits": Match(distance="kl"),
            # Nearly all logits are certain, so a few tokens make most of their divergence; this term has all frames.
            "encoder": Match(distance="squared", weight=10.0),
            "alphas": Match(distance="squared", weight=20.0),
            "quantity": Match(distance="squared", weight=5.0),
        },
        losses={"quantity": 1.0},
        labels="text",
    ),
    configuration=lazy("sottovoce_paraformer.shape:configuration"),
    parts={
        "encoder": r"re:encoder\..*",
        "decoder": r"re:decoder\..*",
        "predictor": r"re:predictor\..*",
        "hotwords": r"re:(bias|lstm_proj|seaco|hotword).*",
    },
    task="transcription",
    presets={
        "paraformer-int8-encoder": {
            "description": "the decoder is to stay as it is",
            "steps": [{"step": "quantize", "bits": 8, "targets": [rf"re:encoder\..*({_ATTENTION}|{_FEED_FORWARD})"]}],
        },
    },
    card=CardFacts(
        pipeline_tag="automatic-speech-recognition",
        library_name="funasr",
        languages=("zh", "en"),
        usage=_usage('model="{directory}"'),
        example='print(sottovoce.transcribe(model, "{audio}").text)\n',
        hub_usage={
            "hf": _usage('model="{repository}", hub="hf"'),
            "modelscope": _usage('model="{repository}", hub="ms"'),
        },
        translations={"zh": CHINESE},
        packages=("sottovoce-paraformer", "funasr"),
    ),
    resolve=resolve,
    runner=Runner(
        forward=lazy("sottovoce_paraformer.recognition:forward"),
        predict=lazy("sottovoce_paraformer.recognition:predict"),
        counted_logits=lazy("sottovoce_paraformer.recognition:counted_logits"),
        recognize=lazy("sottovoce_paraformer.transcription:recognize"),
        probe=lazy("sottovoce_paraformer.recognition:probe"),
        optimize_for_inference=lazy("sottovoce_paraformer.sanm:optimize_for_inference"),
        int8_copies=lazy("sottovoce_paraformer.sanm:int8_copies"),
    ),
)

VOICE_ACTIVITY = Architecture(
    name="fsmn-vad",
    matches=_names(*VOICE_ACTIVITY_CLASSES),
    layers=Layers(
        targets=(r"re:encoder\.(in_linear[12]|out_linear1|fsmn\.\d+\.(linear|affine))\.linear",),
        ignore={
            r"re:encoder\.out_linear2.*": "output layer: its scores are compared with a threshold",
            r"re:.*\.conv_(left|right)": "FSMN memory: a depthwise convolution",
        },
        blocks=(r"re:encoder\.fsmn\.\d+",),
        # The memory between them is a convolution of every channel by itself.
        scale_pairs={r"re:encoder\.fsmn\.\d+": (ScalePair("linear.linear", ("affine.linear",)),)},
    ),
    parts={"encoder": r"re:encoder\..*"},
    task="voice-activity-detection",
    card=CardFacts(
        pipeline_tag="voice-activity-detection",
        library_name="funasr",
        languages=("zh", "en"),
        translations={"zh": CHINESE},
    ),
    runner=Runner(
        forward=lazy("sottovoce_paraformer.voice_activity:forward"),
        predict=lazy("sottovoce_paraformer.voice_activity:predict"),
        detect_speech=lazy("sottovoce_paraformer.voice_activity:detect_speech"),
        probe=lazy("sottovoce_paraformer.recognition:probe"),
    ),
)

PUNCTUATION = Architecture(
    name="ct-punc",
    matches=_names(*PUNCTUATION_CLASSES),
    layers=Layers(
        targets=(rf"re:encoder\.encoders0?\.\d+\.({_ATTENTION}|{_FEED_FORWARD})",),
        ignore={
            r"re:.*\.fsmn_block": "FSMN memory: a depthwise convolution",
            "re:embed": "embedding table: looked up, not multiplied; it is most of this model",
            "re:decoder": "output layer",
            r"re:.*norm\d?": "normalization",
        },
        blocks=(_ENCODER_LAYER,),
        scale_pairs={_ENCODER_LAYER: _ENCODER_PAIRS},
        # The vocabulary's embedding is nine tenths of the published models.
        min_coverage=0.01,
    ),
    parts={"encoder": r"re:encoder\..*", "embedding": "re:embed.*", "output": "re:decoder.*"},
    task="punctuation",
    inputs=("text",),
    card=CardFacts(
        pipeline_tag="token-classification",
        library_name="funasr",
        languages=("zh", "en"),
        translations={"zh": CHINESE},
    ),
    runner=Runner(
        forward=lazy("sottovoce_paraformer.punctuation:forward"),
        predict=lazy("sottovoce_paraformer.punctuation:predict"),
        punctuate=lazy("sottovoce_paraformer.punctuation:punctuate"),
        probe=lazy("sottovoce_paraformer.punctuation:probe"),
        optimize_for_inference=lazy("sottovoce_paraformer.sanm:optimize_for_inference"),
        int8_copies=lazy("sottovoce_paraformer.sanm:int8_copies"),
    ),
)

SPEAKERS = Architecture(
    name="cam++",
    matches=_names(*SPEAKER_CLASSES),
    layers=Layers(targets=(), ignore={r"re:(head|xvector)\..*": "convolution: only linear layers are quantized"}),
    task="speaker-diarization",
    card=CardFacts(library_name="funasr", languages=("zh", "en"), translations={"zh": CHINESE}),
    runner=Runner(
        forward=lazy("sottovoce_paraformer.speakers:forward"),
        predict=lazy("sottovoce_paraformer.speakers:predict"),
        diarize=lazy("sottovoce_paraformer.speakers:diarize"),
        probe=lazy("sottovoce_paraformer.recognition:probe"),
    ),
)

ARCHITECTURES = (PARAFORMER, VOICE_ACTIVITY, PUNCTUATION, SPEAKERS)
