"""The format ``executorch`` of aligners: one method of a ``.pte`` file, for phones and small boards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

SECONDS = 32
"""Greatest length of audio: memory is planned for it."""
WORD_TOKENS = 608
"""Greatest number of tokens that are none of audio: a word has two for its times and one or more of its own."""
_FILE, _METHOD = "model.pte", "forward"


class ExecuTorch(Format):
    """``model.pte`` with one method, and the files that ``align.py`` reads; audio of 32 seconds at most.

    XNNPACK computes what it can. It takes a compressed model's weights of int8 as they are, and those of int4 where
    groups are a multiple of 32 inputs; it rounds the inputs of both to int8.
    """

    name = "executorch"
    label = Text(en="ExecuTorch with XNNPACK, in float, int8 or int4", zh="ExecuTorch + XNNPACK（浮点、int8 或 int4）")
    architectures = ("qwen3-forced-aligner",)
    usage = """\
import sys
from pathlib import Path
import numpy, torch
from executorch.runtime import Runtime
sys.path.insert(0, "{directory}")
from align import Aligner, read_audio
method = Runtime.get().load_program("{directory}/model.pte").load_method("forward")
names = ("input_features", "frames", "input_ids")
run = lambda inputs: method.execute([torch.from_numpy(numpy.ascontiguousarray(inputs[name])) for name in names])
aligner = Aligner(Path("{directory}"), lambda inputs: run(inputs)[0].numpy().copy())
print(aligner(read_audio(Path("{audio}"), 16000), "{text}", "Chinese"))
"""

    def write(self, model: Model, directory: Path) -> None:
        """Write the method and the files beside it."""
        from sottovoce.formats.executorch import Method, export_executorch
        from sottovoce.formats.quantized_weights import QuantizedWeights
        from sottovoce.formats.xnnpack_weights import store_for_xnnpack
        from sottovoce_forced_aligner.graph import graph_of
        from sottovoce_forced_aligner.graph_files import settings_of, write_companions

        traceable, settings = graph_of(model.native), settings_of(model)
        store_for_xnnpack(traceable.module, QuantizedWeights(model.module))
        windows, audio_tokens = _greatest(settings)
        bounds = {"input_features": windows, "input_ids": audio_tokens + WORD_TOKENS}
        lengths = {
            name: {axis: (label, bounds[name]) for axis, label in traceable.dynamic_axes.get(name, {}).items()}
            for name in traceable.input_names
        }
        method = Method(name=_METHOD, module=traceable.module, inputs=traceable.inputs, lengths=lengths)
        export_executorch([method], directory / _FILE)
        write_companions(model, directory, _FILE, longest_seconds=min(SECONDS, settings["longest_seconds"]))

    def check(self, directory: Path) -> None:
        """Run the method in ExecuTorch's runtime on noise."""
        from sottovoce_forced_aligner.graph_client import check_graph

        check_graph(directory, ExecuTorchAligner(directory / _FILE))


class ExecuTorchAligner:
    """The method as a graph with named inputs."""

    def __init__(self, path: Path) -> None:
        """Load the file.

        Raises:
            OutputError: ExecuTorch is not installed, or does not read the file.
        """
        from sottovoce.formats.executorch import ExecuTorchSession

        self.path, self._session = path, ExecuTorchSession(path)

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the method, and return its outputs by name.

        Raises:
            OutputError: There are more frames or tokens than memory was planned for.
        """
        from sottovoce_forced_aligner.graph import INPUTS, OUTPUTS

        return dict(zip(OUTPUTS, self._session.run(_METHOD, [inputs[name] for name in INPUTS]), strict=True))


def _greatest(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return the greatest number of attention windows, and of the audio tokens in them."""
    window, chunk = settings["window_frames"], settings["chunk_frames"]
    samples = round(min(SECONDS, settings["longest_seconds"]) * settings["sampling_rate"])
    windows = -(-samples // (settings["hop_length"] * window))
    return windows, windows * (window // chunk) * -(-chunk // 8)
