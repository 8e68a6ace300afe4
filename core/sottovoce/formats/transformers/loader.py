"""Any class of transformers, by the name in its ``config.json``: the loader that answers last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.safe_config import read_config
from sottovoce.checkpoint.shards import say_choice, weight_files
from sottovoce.checkpoint.stream import Rename, Stream
from sottovoce.errors import SourceError, UsageError
from sottovoce.formats import compressed_tensors
from sottovoce.formats.transformers.building import build_to_generate
from sottovoce.formats.transformers.checkpoints import fill_experts_, fill_quantized_, fill_streamed_, prepare_layers_
from sottovoce.formats.transformers.dense import load_dense
from sottovoce.formats.transformers.processors import check_files, load_processor
from sottovoce.model import Model
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.source import LoadOptions, Source
from sottovoce.system.machine import available_memory
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture


@hookimpl(trylast=True)
def sottovoce_load(source: Source, architecture: Architecture, options: LoadOptions) -> Model | None:
    """Build a transformers model from a directory with a ``config.json``."""
    directory = source.directory
    if not (directory / "config.json").is_file():
        return None
    config = read_config(directory / "config.json")
    # Whatever the library reads besides the configuration is looked at before it reads any of it.
    check_files(directory)
    quantization = _quantization(config, directory)
    say_choice(directory, options.weights)
    if architecture.experts and not options.stream:
        options = replace(options, stream=_is_too_large(directory, options))
    if options.stream and options.device != "cpu":
        raise UsageError(
            f"{source.name}: a streamed model is worked on by the processor; leave out device={options.device}"
        )
    native, stream, rename = _load_weights(config, quantization, architecture, directory, options)
    if stream is None:
        native = native.to(options.device)
    native.eval()
    # Beside the packing of weights, which leaves Python alone.
    with ThreadPoolExecutor(1, "processor") as pool:
        loading = pool.submit(load_processor, directory, native.config, architecture.processor)
        if quantization is not None:
            packs = stream is None and options.device == "cpu"
            _prepare_for_inference_(native, architecture, weight_files(directory, options.weights) if packs else None)
        processor = loading.result()
    return Model(
        module=native,
        native=native,
        processor=processor,
        architecture=architecture,
        source=source,
        stream=stream,
        rename=rename,
    )


def _load_weights(
    config: dict[str, Any], quantization: Any, architecture: Architecture, directory: Path, options: LoadOptions
) -> tuple[Any, Stream | None, Rename | None]:
    """Build the model and load its weights, in the way of its kind of checkpoint."""
    if quantization is None and not architecture.experts and not options.stream:
        return load_dense(config, directory, options), None, None
    native = build_to_generate(config, directory, options)
    prepare_layers_(native, quantization, architecture, directory)
    if options.stream:
        return native, *fill_streamed_(native, architecture, directory, options)
    rename = None
    if architecture.experts:
        rename = fill_experts_(native, directory, options)
    else:
        fill_quantized_(native, directory, options)
    return native, None, rename


def _prepare_for_inference_(native: Any, architecture: Architecture, packed: Sequence[Path] | None) -> None:
    """Make a compressed model fast; a family may choose other products, so weights are packed after that.

    Args:
        native: The model.
        architecture: Its family.
        packed: Files of the weights that are packed; ``None`` to leave that to the first run.
    """
    from sottovoce.runtime.layers import pack_

    if (optimize := architecture.runner.optimize_for_inference) is not None:
        optimize(native)
    if packed is not None:
        pack_(native, *packed)


def _is_too_large(directory: Path, options: LoadOptions) -> bool:
    """Return whether the weights take more than half of the memory that they may, or more than there is."""
    size = sum(path.stat().st_size for path in weight_files(directory, options.weights))
    if options.max_memory is not None:
        return 2 * size > options.max_memory
    free = available_memory()
    return free is not None and size > free


def _quantization(config: Mapping[str, Any], directory: Path) -> Any:
    """Return the ``quantization_config`` of a model that Sottovoce wrote; ``None`` for a float model.

    Raises:
        SourceError: Another tool quantized it.
    """
    quantization = config.get("quantization_config")
    if quantization is None or compressed_tensors.is_own(quantization):
        return quantization
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization
    raise SourceError(
        f"{directory}: was quantized by another tool (quant_method {one_line(repr(method), 60)}); "
        "give the model that it was made from"
    )
