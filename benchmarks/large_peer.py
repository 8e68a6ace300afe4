"""FunASR's own export of a Paraformer to ONNX in int8, with what funasr-onnx and onnxruntime read beside the graph.

``python benchmarks/large_peer.py MODEL DIRECTORY`` writes it; a model of 220 million parameters takes a minute and
6 GB of memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sottovoce
from paths import export
from sottovoce.formats.onnx import write_metadata
from sottovoce_paraformer.onnx_export import copy_files, metadata


def write(model: Path, directory: Path) -> Path:
    """Export the model, and return the graph in int8; that in float32 is removed.

    Args:
        model: Directory of a float model.
        directory: Made when it is missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    export(model, directory)
    (directory / "model.onnx").unlink()
    graph = directory / "model_quant.onnx"
    # The graph stays FunASR's; the clients of `sottovoce check` read the front end and the tokens from these.
    tokens = copy_files(model, directory, timed=False)
    write_metadata(graph, metadata(sottovoce.load(str(model)), tokens))
    return graph


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), Path(sys.argv[2])))
