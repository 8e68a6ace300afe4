"""The format ``onnx`` of aligners: one graph for audio and words, and a client that needs no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

FLOAT, QUANTIZED = "model.onnx", "model_quant.onnx"


class ONNX(Format):
    """``model.onnx`` in float32, for a compressed model ``model_quant.onnx`` too, and ``align.py``, which runs them.

    ``model_quant.onnx`` has the compressed model's values of int8 and int4. Beside them lie ``tokenizer.json`` and
    ``aligner.json``. Audio may be as long as the model has times for, 300 seconds at most.
    """

    name = "onnx"
    label = Text(en="ONNX for onnxruntime, with a client", zh="ONNX，供 onnxruntime 使用，附带客户端")
    architectures = ("qwen3-forced-aligner",)
    usage = """\
import sys
from pathlib import Path
sys.path.insert(0, "{directory}")
from align import Aligner, read_audio  # needs onnxruntime, numpy and tokenizers
aligner = Aligner(Path("{directory}"))
print(aligner(read_audio(Path("{audio}"), 16000), "{text}", "Chinese"))
"""

    def write(self, model: Model, directory: Path) -> None:
        """Write the graphs and the files beside them."""
        from sottovoce.formats.onnx_files import write_onnx
        from sottovoce.formats.quantized_weights import QuantizedWeights
        from sottovoce_forced_aligner.graph import graph_of
        from sottovoce_forced_aligner.graph_files import write_companions

        weights = QuantizedWeights(model.module)
        write_onnx(graph_of(model.native), directory / FLOAT, weights, directory / QUANTIZED)
        write_companions(model, directory, QUANTIZED if len(weights) else FLOAT)

    def check(self, directory: Path) -> None:
        """Run the graphs in onnxruntime on noise, by the client that lies beside them."""
        from sottovoce.formats.onnx import OnnxSession
        from sottovoce_forced_aligner.graph_client import check_graph

        for name in (FLOAT, QUANTIZED):
            if (directory / name).is_file():
                check_graph(directory, OnnxSession(directory / name))
