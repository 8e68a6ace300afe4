"""The format ``tensorrt`` of Paraformers: a graph that TensorRT's rules allow, and where it is installed an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model
    from sottovoce.formats.tensorrt import Profile

_FRAMES, _BATCH = (4, 100, 1000), (1, 1, 16)
"""Least, usual and most frames of 60 ms, and utterances at once."""

_NOTES = """\
Inputs are `speech` (filter banks, float32 `[batch, frames, {width}]`) and `speech_lengths` (int32 `[batch]`). Outputs
are `logits` (log-probabilities, float32 `[batch, positions, {tokens}]`) and `token_num` (int32 `[batch]`). Positions
are as many as frames: only the first `token_num` of an utterance are its tokens, whose names `tokens.txt` has.

Leave out `--fp16`: the sums that count the tokens are whole numbers in float32. An utterance has at most {longest}
frames.
"""


class TensorRT(Format):
    """A graph in float32 with as many positions as frames, the files beside it, and the command that builds an engine.

    The graph is checked by the rules of TensorRT's parser and run in onnxruntime. An engine is built only where
    TensorRT is installed. Classes with hotwords are not for it, and times of words are left out.
    """

    name = "tensorrt"
    label = Text(en="ONNX that TensorRT builds an engine of", zh="可由 TensorRT 构建引擎的 ONNX")
    architectures = ("paraformer",)
    usage = """\
import onnxruntime
session = onnxruntime.InferenceSession(
    "{directory}/model.trt.onnx", providers=["TensorrtExecutionProvider", "CUDAExecutionProvider"]
)
print([(value.name, value.shape) for value in session.get_inputs()])
"""

    def refuse(self, model: Model) -> None:
        """Refuse what the graphs cannot express."""
        from sottovoce_paraformer.onnx_export import refuse_unsupported

        refuse_unsupported(model.module, self.name)

    def write(self, model: Model, directory: Path) -> None:
        """Write the graph, what clients read beside it, and a README with the command."""
        from sottovoce.formats.onnx_files import Traceable
        from sottovoce.formats.tensorrt_files import Notes, write_tensorrt
        from sottovoce_paraformer.onnx_bounded import LONGEST, bounded_graph
        from sottovoce_paraformer.onnx_export import copy_files, metadata, on_cpu

        self.refuse(model)
        graph = bounded_graph(model.module)
        tokens = copy_files(model.source.directory, directory, timed=False)
        width = int(graph.inputs[0].shape[2])
        traceable = Traceable(
            module=on_cpu(graph.module),
            inputs=graph.inputs,
            input_names=graph.input_names,
            output_names=graph.output_names,
            dynamic_axes=graph.dynamic_axes,
        )
        text = _NOTES.format(width=width, tokens=len(tokens), longest=LONGEST)
        notes = Notes(name=type(model.module).__name__, text=text, metadata=metadata(model, tokens))
        write_tensorrt(traceable, _profiles(width), directory, notes)

    def check(self, directory: Path) -> None:
        """Hold the graph against the rules, and run it in onnxruntime on random features."""
        import numpy

        from sottovoce.errors import OutputError
        from sottovoce.formats.onnx import OnnxSession
        from sottovoce.formats.tensorrt import require_allowed
        from sottovoce.formats.tensorrt_files import GRAPH

        path = directory / GRAPH
        require_allowed(path)
        session = OnnxSession(path)
        frames = 30
        features = numpy.random.default_rng(0).standard_normal((1, frames, session.inputs["speech"][2]), numpy.float32)
        outputs = session.run({"speech": features, "speech_lengths": numpy.array([frames], numpy.int32)})
        if not numpy.isfinite(outputs["logits"]).all():
            raise OutputError(f"{path.name}: gives numbers that are not finite; is a weight damaged?")


def _profiles(width: int) -> Mapping[str, Profile]:
    """Return the shapes that an engine is built for."""
    from sottovoce.formats.tensorrt import Profile

    speech = [(batch, frames, width) for batch, frames in zip(_BATCH, _FRAMES, strict=True)]
    return {"speech": Profile(*speech), "speech_lengths": Profile(*((batch,) for batch in _BATCH))}
