"""The format ``torch-export`` of aligners: a program that PyTorch runs without transformers' or Sottovoce's classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

_FILE = "model.pt2"


class TorchExport(Format):
    """``model.pt2``, with the files that ``align.py`` reads.

    A compressed model's values of int8 and int4 are stored as they are; the program makes the float weights of them.
    """

    name = "torch-export"
    label = Text(en="a program of torch.export (.pt2)", zh="torch.export 程序（.pt2）")
    architectures = ("qwen3-forced-aligner",)
    usage = """\
import sys
from pathlib import Path
import torch
sys.path.insert(0, "{directory}")
from align import Aligner, read_audio
program = torch.export.load("{directory}/model.pt2").module()
run = lambda inputs: program(*(torch.from_numpy(inputs[name]) for name in ("input_features", "frames", "input_ids")))
aligner = Aligner(Path("{directory}"), lambda inputs: run(inputs).detach().numpy())
print(aligner(read_audio(Path("{audio}"), 16000), "{text}", "Chinese"))
"""

    def write(self, model: Model, directory: Path) -> None:
        """Write the program and the files beside it."""
        from sottovoce.formats.quantized_weights import QuantizedWeights
        from sottovoce.formats.stored_weights import store_weights
        from sottovoce.formats.torch_export import export_program
        from sottovoce_forced_aligner.graph import graph_of
        from sottovoce_forced_aligner.graph_files import write_companions

        traceable = graph_of(model.native)
        store_weights(traceable.module, QuantizedWeights(model.module))
        export_program(
            traceable.module,
            traceable.inputs,
            directory / _FILE,
            input_names=traceable.input_names,
            output_names=traceable.output_names,
            dynamic_axes=traceable.dynamic_axes,
        )
        write_companions(model, directory, _FILE)

    def check(self, directory: Path) -> None:
        """Load the program, and run it on noise of another length."""
        from sottovoce.formats.torch_export import ProgramSession
        from sottovoce_forced_aligner.graph_client import check_graph

        check_graph(directory, ProgramSession(directory / _FILE))
