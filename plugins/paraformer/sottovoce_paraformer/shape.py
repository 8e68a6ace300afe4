"""Structure of a Paraformer that may be pruned, and the settings by which FunASR builds it."""

from __future__ import annotations

from typing import Any

from sottovoce import Depth, Heads, Model, Shape, Width, lazy

_COUNT = lazy("sottovoce_paraformer.heads:count")
_REMOVE = lazy("sottovoce_paraformer.heads:remove")
_OWN_CLASS = (
    "FunASR's own classes have no attention with fewer heads, so FunASR loads the result after `import "
    "sottovoce_paraformer.register`"
)

SHAPE = Shape(
    widths=(
        Width(
            part="encoder",
            modules=r"re:encoder\.encoders0?\.\d+\.feed_forward",
            inputs=("w_1",),
            output="w_2",
            keys=("encoder_conf.linear_units",),
            is_last=True,
        ),
        Width(
            part="decoder",
            modules=r"re:decoder\.(decoders[23]?\.\d+|last_decoder)\.feed_forward",
            inputs=("w_1",),
            output="w_2",
            norm="norm",
            keys=("decoder_conf.linear_units",),
        ),
        Width(
            part="hotword decoder",
            modules=r"re:seaco_decoder\.(decoders[23]?\.\d+|last_decoder)\.feed_forward",
            inputs=("w_1",),
            output="w_2",
            norm="norm",
            keys=("seaco_decoder_conf.linear_units",),
            # Speech without hotwords does not pass through it.
            pruned=False,
        ),
    ),
    heads=(
        Heads(
            part="encoder",
            modules=r"re:encoder\.encoders0?\.\d+\.self_attn",
            output="linear_out",
            groups=_COUNT,
            remove=_REMOVE,
            own_class=_OWN_CLASS,
        ),
        Heads(
            part="decoder",
            modules=r"re:decoder\.(decoders[23]?\.\d+|last_decoder)\.src_attn",
            output="linear_out",
            groups=_COUNT,
            remove=_REMOVE,
            own_class=_OWN_CLASS,
            pruned=False,
        ),
        Heads(
            part="hotword decoder",
            modules=r"re:seaco_decoder\.(decoders[23]?\.\d+|last_decoder)\.src_attn",
            output="linear_out",
            groups=_COUNT,
            remove=_REMOVE,
            own_class=_OWN_CLASS,
            # Speech without hotwords does not pass through it.
            pruned=False,
        ),
    ),
    depths=(
        Depth(
            part="encoder",
            layers="encoder.encoders",
            before="encoder.encoders0.0",
            output="feed_forward.w_2",
            keys=("encoder_conf.num_blocks",),
            # Without it, fewer tokens or more are counted in voices that no calibration set has.
            keep={-1: "the predictor counts the tokens by what leaves it"},
        ),
        Depth(
            part="decoder",
            layers="decoder.decoders",
            output="src_attn.linear_out",
            keys=("decoder_conf.att_layer_num", "decoder_conf.num_blocks"),
            pruned=False,
        ),
        Depth(
            part="hotword decoder",
            layers="seaco_decoder.decoders",
            output="src_attn.linear_out",
            keys=("seaco_decoder_conf.att_layer_num", "seaco_decoder_conf.num_blocks"),
            pruned=False,
        ),
    ),
)


def configuration(model: Model) -> Any:
    """Return FunASR's keyword arguments, by which it built the model."""
    return model.processor
