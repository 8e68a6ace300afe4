"""Paraformer as ONNX, in the layout that funasr-onnx, FunASR's C++ runtime and sherpa-onnx read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sottovoce.errors import SourceError, UsageError
from sottovoce.formats.float_layers import on_cpu as on_cpu
from sottovoce_paraformer.configuration import CONFIG, dense_config

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model

CLASSES = ("Paraformer", "BiCifParaformer", "SeacoParaformer", "ContextualParaformer")
"""FunASR's model classes that can be exported."""

# Parts of names, as FunASR has them: the output layers (`output_layer`, `hotword_output_layer`, `bias_output` and the
# predictor's `cif_output`) and the hotwords decide single tokens. `linear_out` of the attentions does not match.
_KEEP_FLOAT = ("output", "bias_encoder", "bias_decoder")
_NEEDED = ("am.mvn", "tokens.json")
_OPTIONAL = ("seg_dict",)


def export_onnx(model: Model, directory: Path) -> Path:
    """Write a Paraformer as FunASR's clients expect it; the model is left as it was.

    Written are ``model.onnx`` in float32 and ``model_quant.onnx`` with quantized weights, for classes with hotwords
    also ``model_eb.onnx`` and ``model_eb_quant.onnx``; ``config.yaml``, ``am.mvn``, ``tokens.json`` and ``seg_dict``
    for funasr-onnx and FunASR's C++ runtime; ``tokens.txt`` and metadata inside ``model.onnx`` for sherpa-onnx, which
    runs the classes without hotwords.

    Inputs are ``speech`` ``[batch, time, features]`` and ``speech_lengths`` ``[batch]`` int32, any batch and length;
    with hotwords ``bias_embed`` ``[batch, hotwords, width]``. Outputs are ``logits`` ``[batch, tokens, vocabulary]``
    (log-probabilities), ``token_num`` ``[batch]`` int32, and where the model has timestamps ``us_alphas`` and
    ``us_cif_peak`` ``[batch, 3 * time]``.

    Args:
        model: The model; ``native`` is a FunASR ``AutoModel``. Its layers in int8 and int4 are in ``model.onnx`` the
            floats that they stand for, and in ``model_quant.onnx`` as they are, value by value. The weights of a float
            model are rounded to int8 there.
        directory: An existing directory to write to.

    Returns:
        The directory.

    Raises:
        UsageError: The class or the configuration cannot be exported.
        SourceError: The model's directory lacks a file that the clients need.
        OutputError: ONNX or onnxruntime is not installed.
    """
    from sottovoce.formats.onnx import quantize_onnx, write_metadata
    from sottovoce.formats.onnx_weights import carry_weights
    from sottovoce.formats.quantized_weights import QuantizedWeights

    refuse_unsupported(model.module)
    timed = _kind(model.module.predictor) == "CifPredictorV3"
    tokens = copy_files(model.source.directory, directory, timed)
    weights = QuantizedWeights(model.module)
    # The float graph's metadata is taken over when it is quantized.
    for path in write_graphs(model.module, directory):
        quantized = path.with_name(f"{path.stem}_quant.onnx")
        is_recognizer = path.stem == "model"
        if is_recognizer:
            write_metadata(path, metadata(model, tokens))
        # Hotwords are encoded by an LSTM, which stays float; clients ask for the file all the same.
        if not carry_weights(path, quantized, weights) and is_recognizer:
            quantize_onnx(path, quantized, _KEEP_FLOAT)
    return directory


def write_graphs(module: nn.Module, directory: Path) -> Iterator[Path]:
    """Write the graphs of a FunASR model in float32, and return the path of each once it is written."""
    from sottovoce.formats.onnx import export_onnx as write_graph
    from sottovoce_paraformer.onnx_graphs import graphs

    for graph in graphs(module):
        path = directory / f"{graph.name}.onnx"
        write_graph(
            on_cpu(graph.module),
            graph.inputs,
            path,
            input_names=graph.input_names,
            output_names=graph.output_names,
            dynamic_axes=graph.dynamic_axes,
        )
        yield path


def copy_files(source: Path, directory: Path, timed: bool) -> list[str]:
    """Copy the files that the clients read beside the graphs, and return the tokens."""
    for name in _NEEDED:
        if not (source / name).is_file():
            raise SourceError(f"{source}: no {name}, which every client of the export reads; take it from the original")
    for name in (*_NEEDED, *_OPTIONAL):
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    (directory / CONFIG).write_text(_client_config(source, timed), encoding="utf-8")
    tokens = json.loads((source / "tokens.json").read_text(encoding="utf-8"))
    lines = "".join(f"{token} {index}\n" for index, token in enumerate(tokens))
    (directory / "tokens.txt").write_text(lines, encoding="utf-8")
    return [str(token) for token in tokens]


def _client_config(source: Path, timed: bool) -> str:
    """Return the configuration for funasr-onnx, which cuts ``predictor_bias`` tokens off every utterance.

    The end of the sentence, which the bias stands for, is left out by the client as it is in torch, so that the cut
    only takes a character from sentences that the model gives no end. With timestamps the client needs the cut: it
    stops where there is a token more than there are peaks.
    """
    config = dense_config(source)
    if not timed:
        config["model_conf"] = {**(config.get("model_conf") or {}), "predictor_bias": 0}
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def metadata(model: Model, tokens: list[str]) -> dict[str, str]:
    """Return what sherpa-onnx reads from the graph: features, normalization and the size of the vocabulary."""
    frontend = model.native.kwargs["frontend"]
    negative_mean, inverse_deviation = frontend.cmvn.tolist()
    repository = model.source.repository
    hub = "https://modelscope.cn/models" if repository and repository.hub == "modelscope" else "https://huggingface.co"
    return {
        "model_type": "paraformer",
        "version": "1",
        "model_author": repository.id.split("/")[0] if repository else "",
        "url": f"{hub}/{repository.id}" if repository else "",
        "comment": f"{_kind(model.module)}, exported by Sottovoce",
        "vocab_size": str(len(tokens)),
        "lfr_window_size": str(frontend.lfr_m),
        "lfr_window_shift": str(frontend.lfr_n),
        "neg_mean": ",".join(map(str, negative_mean)),
        "inv_stddev": ",".join(map(str, inverse_deviation)),
    }


def refuse_unsupported(module: Any, format: str = "onnx") -> None:
    """Refuse a model that the graphs cannot express.

    Raises:
        UsageError: The class or the configuration cannot be exported; names the format.
    """
    kind = _kind(module)
    if kind not in CLASSES:
        raise UsageError(f"{kind} cannot be exported as {format}; the classes that can are {', '.join(CLASSES)}")
    problem = next(_problems(module), None)
    if problem is not None:
        raise UsageError(
            f"{kind} with {problem} cannot be exported as {format}; export it with FunASR, or train it without"
        )


def write_companions(model: Model, directory: Path) -> None:
    """Write what every client of a graph reads beside it: ``config.yaml``, ``am.mvn`` and the tokens.

    Raises:
        SourceError: The model's directory lacks one of them.
    """
    copy_files(model.source.directory, directory, timed=_kind(model.module.predictor) == "CifPredictorV3")


def _problems(module: Any) -> Iterator[str]:
    """Return what the graphs cannot express, in a few words for each."""
    encoder, decoder = module.encoder, module.decoder
    if _kind(encoder) != "SANMEncoder":
        yield f"the encoder {_kind(encoder)}"
    elif encoder.interctc_layer_idx:
        yield "CTC inside the encoder"
    elif encoder.embed is not None and _kind(encoder.embed) != "SinusoidalPositionEncoder":
        yield f"the input layer {_kind(encoder.embed)}"
    if _kind(decoder) not in ("ParaformerSANMDecoder", "ContextualParaformerDecoder"):
        yield f"the decoder {_kind(decoder)}"
    elif decoder.output_layer is None:
        yield "a decoder without output layer"
    for part in (encoder, decoder, getattr(module, "seaco_decoder", None)):
        yield from () if part is None else _layer_problems(part)
    yield from _predictor_problems(module.predictor)
    yield from _hotword_problems(module)


def _layer_problems(part: Any) -> Iterator[str]:
    for layer in part.modules():
        if getattr(layer, "concat_after", False) or not getattr(layer, "normalize_before", True):
            yield f"concat_after or without normalize_before in {_kind(part)}"
        attention = getattr(layer, "self_attn", None)
        if attention is not None and not hasattr(attention, "fsmn_block"):
            yield f"the attention {_kind(attention)}"
        feed_forward = getattr(layer, "feed_forward", None)
        if feed_forward is not None and not hasattr(feed_forward, "w_1"):
            yield f"the feed-forward layer {_kind(feed_forward)}"


def _predictor_problems(predictor: Any) -> Iterator[str]:
    if _kind(predictor) not in ("CifPredictor", "CifPredictorV2", "CifPredictorV3"):
        yield f"the predictor {_kind(predictor)}"
    elif predictor.threshold != 1.0 or predictor.smooth_factor - predictor.noise_threshold > 1.0:
        # FunASR fires at most once a frame and always takes 1 away; the closed form is the same only within these.
        yield "a predictor whose threshold is not 1 or whose weights exceed 1"
    elif getattr(predictor, "upsample_type", "cnn") not in ("cnn", "cnn_blstm"):
        yield f"upsample_type {predictor.upsample_type}"


def _hotword_problems(module: Any) -> Iterator[str]:
    kind = _kind(module)
    if kind not in ("SeacoParaformer", "ContextualParaformer"):
        return
    encoder = getattr(module, "bias_encoder", None)
    if encoder is None or encoder.bidirectional:
        # The clients pad hotwords to 10 tokens and do not say how long they are, so none can be read backwards.
        yield "a hotword encoder that is not a one-directional LSTM"
    if kind == "SeacoParaformer" and not hasattr(module, "seaco_decoder"):
        yield "no seaco_decoder"


def _kind(part: Any) -> str:
    """Return the name of the nearest class of FunASR's own, so that a subclass counts as what it extends."""
    names = (base.__name__ for base in type(part).__mro__ if base.__module__.startswith("funasr."))
    return next(names, type(part).__name__)
