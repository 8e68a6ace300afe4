"""The format ``openvino`` of aligners: OpenVINO IR with the compressed model's own integers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

_FILE = "model.xml"


class OpenVINO(Format):
    """``model.xml`` and ``model.bin``, with the files that ``align.py`` reads.

    A float model is written in float32. A compressed one is written with its values of int8 and int4.
    """

    name = "openvino"
    label = Text(en="OpenVINO IR, in float, int8 or int4", zh="OpenVINO IR（浮点、int8 或 int4）")
    architectures = ("qwen3-forced-aligner",)
    usage = """\
import sys
from pathlib import Path
import openvino
sys.path.insert(0, "{directory}")
from align import Aligner, read_audio
graph = openvino.compile_model("{directory}/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
aligner = Aligner(Path("{directory}"), lambda inputs: graph(inputs)["logits"])
print(aligner(read_audio(Path("{audio}"), 16000), "{text}", "Chinese"))
"""

    def write(self, model: Model, directory: Path) -> None:
        """Write the graph and the files beside it."""
        from sottovoce.formats.onnx_files import trace
        from sottovoce.formats.openvino import export_openvino
        from sottovoce.formats.quantized_weights import QuantizedWeights
        from sottovoce_forced_aligner.graph import graph_of
        from sottovoce_forced_aligner.graph_files import write_companions

        with tempfile.TemporaryDirectory(dir=directory) as folder:
            path = Path(folder) / "model.onnx"
            trace(graph_of(model.native), path)
            export_openvino(path, directory / _FILE, QuantizedWeights(model.module))
        write_companions(model, directory, _FILE)

    def check(self, directory: Path) -> None:
        """Compile the graph for the CPU, and run it on noise."""
        from sottovoce.formats.openvino import OpenVINOSession
        from sottovoce_forced_aligner.graph_client import check_graph

        check_graph(directory, OpenVINOSession(directory / _FILE))
