"""A Paraformer as FunASR's runtime on ggml reads it, and what that runtime is built for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sottovoce.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from sottovoce.formats.gguf import Tensors, Value

WIDTH, HEADS, KERNEL, FEATURES = 512, 4, 11, 560
"""Sizes that stand in the runtime's source; numbers of blocks, hidden units and tokens it reads from the file."""
_PARTS = ("encoder", "decoder", "predictor")
_TIMES = ("predictor.upsample_cnn", "predictor.blstm", "predictor.cif_output2", "predictor.self_attn")
"""Parts for times of tokens, which the runtime does not give."""
_EMBEDDING = "decoder.embed"
"""Embeddings of tokens, which only training uses."""
_SILENT = frozenset({"<blank>", "<s>", "</s>", "<unk>", "<OOV>"})


def refuse_unsupported(module: Any, frontend: Any, runtime: str) -> None:
    """Refuse a model that the runtime cannot run.

    Raises:
        UsageError: The class, a size or a setting is another than what stands in the runtime's source.
    """
    from sottovoce_paraformer import onnx_export

    onnx_export.refuse_unsupported(module, "gguf")
    kind = type(module).__name__
    if hasattr(module, "bias_encoder"):
        raise UsageError(f"{kind} cannot be exported as gguf, whose runtime takes no hotwords; use onnx or openvino")
    other = next(_differences(module, frontend), None)
    if other is not None:
        raise UsageError(
            f"{kind} cannot be exported as gguf: {runtime} has {other[0]} in its source, and this model {other[1]}; "
            "use onnx or openvino"
        )


def _differences(module: Any, frontend: Any) -> Iterator[tuple[str, str]]:
    """Return what the runtime has, and what the model has in its place."""
    encoder, decoder = module.encoder, module.decoder
    facts = {
        "width": (encoder.output_size(), WIDTH),
        "features": (encoder.encoders0[0].in_size, FEATURES),
        "blocks of another width before the others": (len(encoder.encoders0), 1),
        "decoder blocks without attention to the frames": (len(decoder.decoders2 or ()), 0),
    }
    for name, (value, expected) in facts.items():
        if value != expected:
            yield f"{name} {expected}", f"{value}"
    if encoder.embed is None:
        yield "positions added to the features", "none"
    yield from _layer_differences(encoder, decoder)
    yield from _predictor_differences(module.predictor)
    yield from _frontend_differences(frontend)


def _layer_differences(encoder: Any, decoder: Any) -> Iterator[tuple[str, str]]:
    blocks = (*encoder.encoders0, *encoder.encoders)
    for layer in blocks:
        yield from _attention_differences(layer.self_attn, layer.self_attn)
    for layer in decoder.decoders:
        yield from _attention_differences(layer.src_attn, layer.self_attn)
    for layer in (*blocks, *decoder.decoders, *decoder.decoders3):
        if (activation := type(layer.feed_forward.activation).__name__) != "ReLU":
            yield "ReLU", activation


def _attention_differences(attention: Any, memory: Any) -> Iterator[tuple[str, str]]:
    if attention.h != HEADS:
        yield f"{HEADS} heads in every attention", f"{attention.h}"
    padding = tuple(memory.pad_fn.padding)
    if padding != (KERNEL // 2, KERNEL // 2):
        yield f"memories of {KERNEL} frames around each", f"{padding[0]} before and {padding[1]} after"


def _predictor_differences(predictor: Any) -> Iterator[tuple[str, str]]:
    orders = tuple(predictor.pad.padding)
    if orders != (1, 1):
        yield "a predictor that sees 1 frame on each side", f"{orders[0]} before and {orders[1]} after"
    if (predictor.smooth_factor, predictor.noise_threshold) != (1.0, 0):
        yield "smooth_factor 1 and noise_threshold 0", f"{predictor.smooth_factor} and {predictor.noise_threshold}"
    if predictor.tail_threshold <= 0:
        yield "a tail_threshold above 0", f"{predictor.tail_threshold}"


def _frontend_differences(frontend: Any) -> Iterator[tuple[str, str]]:
    usual = {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10}
    for name, value in {**usual, "lfr_m": 7, "lfr_n": 6}.items():
        if getattr(frontend, name, value) != value:
            yield f"{name} {value}", f"{getattr(frontend, name)}"


def metadata(module: Any, tokens: list[str]) -> dict[str, Value]:
    """Return the metadata that the runtime reads, and what its own exporter writes beside it."""
    encoder, decoder, predictor = module.encoder, module.decoder, module.predictor
    return {
        "pf.enc.output_size": WIDTH,
        "pf.enc.attention_heads": HEADS,
        "pf.enc.num_blocks": 1 + len(encoder.encoders),
        "pf.enc.kernel_size": KERNEL,
        "pf.dec.num_blocks": len(decoder.decoders),
        "pf.dec.att_layer_num": len(decoder.decoders),
        "pf.dec.decoders3": len(decoder.decoders3),
        "pf.dec.attention_heads": HEADS,
        "pf.dec.kernel_size": KERNEL,
        "pf.vocab_size": len(tokens),
        # The runtime prints every token but the start and the end of a sentence.
        "pf.vocab": ["" if token in _SILENT else token for token in tokens],
        "pf.predictor.tail_threshold": float(predictor.tail_threshold),
        "pf.predictor.threshold": float(predictor.threshold),
    }


def tensors(module: nn.Module, statistics: Any) -> Tensors:
    """Return the tensors by the runtime's names, which are FunASR's.

    Args:
        module: The model.
        statistics: Shift and scale of the features, ``[2, features]``.

    Raises:
        UsageError: The integers of a layer fit none of ggml's blocks.
    """
    from sottovoce.formats.gguf import as_blocks
    from sottovoce.formats.quantized_weights import QuantizedWeights

    weights = QuantizedWeights(module)
    shift, scale = statistics.float().cpu().numpy()
    result: dict[str, Any] = {"cmvn.shift": shift, "cmvn.scale": scale}
    for name, floats in _floats(module):
        # The runtime computes the predictor by itself, in float32.
        place = None if name.startswith("predictor.") else weights.find(floats)
        blocks = None if place is None or place.transposed else as_blocks(place.weight, floats)
        result[name] = _as_read(name, floats, module) if blocks is None else blocks
    return result


def _floats(module: nn.Module) -> Iterator[tuple[str, NDArray[Any]]]:
    """Return the weights by their names in FunASR, compressed layers as the floats that they stand for."""
    from sottovoce.formats.float_layers import as_float

    for prefix, layer in module.named_modules():
        if not prefix.startswith(tuple(f"{part}." for part in _PARTS)) or prefix.startswith((_EMBEDDING, *_TIMES)):
            continue
        plain = as_float(layer)
        if plain is layer and any(True for _ in layer.children()):
            continue
        state: Mapping[str, Any] = plain.state_dict()
        for name, tensor in state.items():
            yield f"{prefix}.{name}", tensor.detach().float().cpu().numpy()


def _as_read(name: str, floats: NDArray[Any], module: Any) -> NDArray[Any]:
    """Return a float tensor as the runtime reads it."""
    import numpy

    if name.endswith("fsmn_block.weight"):
        return numpy.ascontiguousarray(floats[:, 0].T)
    if not name.startswith("predictor.") and floats.ndim == 2:
        return _half(floats)
    if name != "predictor.cif_conv1d.weight":
        return numpy.ascontiguousarray(floats)
    # The runtime adds the frames to the convolution of them, which is what the first version of the predictor does,
    # with an own kernel for each channel. The later versions do not: the middle of the kernel takes it off again.
    width = len(floats)
    kernel, diagonal = numpy.zeros((width, width, floats.shape[2]), numpy.float32), numpy.arange(width)
    if module.predictor.cif_conv1d.groups > 1:
        kernel[diagonal, diagonal] = floats[:, 0]
        return kernel
    kernel += floats
    kernel[diagonal, diagonal, 1] -= 1
    return kernel


def _half(floats: NDArray[Any]) -> NDArray[Any]:
    """Return the weights of a product as float16 where that holds them exactly, as after a cast; else as they are."""
    import numpy

    with numpy.errstate(over="ignore"):
        half = floats.astype(numpy.float16)
    return half if numpy.array_equal(half, floats) else numpy.ascontiguousarray(floats)
