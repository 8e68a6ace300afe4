"""Sottovoce's plugin for FunASR's Paraformer family, and for its models of voice activity, punctuation and speakers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import sottovoce
from sottovoce import Architecture, LoadOptions, Model, Source
from sottovoce_paraformer import engines as engines  # registers the engines
from sottovoce_paraformer import executorch_format as executorch_format
from sottovoce_paraformer import gguf_format as gguf_format  # registers the format
from sottovoce_paraformer import gguf_runtime as gguf_runtime  # registers the engine
from sottovoce_paraformer import graph_engines as graph_engines
from sottovoce_paraformer import onnx_format as onnx_format  # registers the format
from sottovoce_paraformer import openvino_format as openvino_format
from sottovoce_paraformer import sherpa_format as sherpa_format  # registers the format
from sottovoce_paraformer import tensorrt_format as tensorrt_format  # registers the format
from sottovoce_paraformer import torch_export_format as torch_export_format
from sottovoce_paraformer import torchscript_format as torchscript_format


@sottovoce.hookimpl
def sottovoce_architectures() -> Iterable[Architecture]:
    """Describe Paraformer, BiCif-, Seaco- and ContextualParaformer; FSMN-VAD; CT-Transformer; CAM++."""
    from sottovoce_paraformer.architectures import ARCHITECTURES

    return ARCHITECTURES


@sottovoce.hookimpl
def sottovoce_load(source: Source, architecture: Architecture, options: LoadOptions) -> Model:
    """Load a FunASR ``AutoModel`` without running or following anything in the directory."""
    from sottovoce_paraformer.loader import load

    return load(source, architecture, options)


@sottovoce.hookimpl
def sottovoce_export(model: Model, format: str, directory: Path) -> Path | None:
    """Write ``native``, FunASR's own layout."""
    if format != "native":
        return None
    from sottovoce_paraformer.writer import write

    return write(model, directory)
