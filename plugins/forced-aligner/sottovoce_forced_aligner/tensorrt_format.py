"""The format ``tensorrt`` of aligners: a graph that TensorRT's rules allow, and where it is installed an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model
    from sottovoce.formats.tensorrt import Profile

_SECONDS = (1, 20, 300)
"""Least, usual and most seconds of audio."""
_WORDS = (1, 80, 1200)
"""Words of so much speech."""

_NOTES = """\
Inputs are `input_features` (log-mel features, float32 `[1, {mels}, frames]`, zeros up to a multiple of {window}),
`frames` (number of real frames, int64 `[1]`) and `input_ids` (the prompt, int64 `[1, tokens]`). The output is `logits`
(float32 `[1, tokens, {bins}]`), which count at the tokens that mark a word's start and end. `align.py` makes these
inputs and reads the output: `Aligner(directory, run)` takes the function that runs the engine.

The engine takes up to {seconds:g} s of audio and {tokens} tokens.
"""


class TensorRT(Format):
    """``model.trt.onnx`` in float32, the files that ``align.py`` reads, and the command that builds an engine.

    The graph is checked by the rules of TensorRT's parser and run in onnxruntime. An engine is built only where
    TensorRT is installed. A compressed model is written as the floats that it stands for.
    """

    name = "tensorrt"
    label = Text(en="ONNX that TensorRT builds an engine of", zh="可由 TensorRT 构建引擎的 ONNX")
    architectures = ("qwen3-forced-aligner",)
    usage = """\
import sys
from pathlib import Path
import onnxruntime
sys.path.insert(0, "{directory}")
from align import Aligner, read_audio
providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
session = onnxruntime.InferenceSession("{directory}/model.trt.onnx", providers=providers)
aligner = Aligner(Path("{directory}"), lambda inputs: session.run(["logits"], dict(inputs))[0])
print(aligner(read_audio(Path("{audio}"), 16000), "{text}", "Chinese"))
"""

    def write(self, model: Model, directory: Path) -> None:
        """Write the graph, what the client reads beside it, and a README with the command."""
        from sottovoce.formats.tensorrt_files import GRAPH, Notes, write_tensorrt
        from sottovoce_forced_aligner.graph import graph_of
        from sottovoce_forced_aligner.graph_files import settings_of, write_companions

        traceable, settings = graph_of(model.native), settings_of(model)
        profiles = _profiles(traceable.module, settings)
        text = _NOTES.format(
            mels=settings["mels"],
            window=settings["window_frames"],
            bins=traceable.module.score.out_features,
            seconds=min(_SECONDS[-1], settings["longest_seconds"]),
            tokens=profiles["input_ids"].most[1],
        )
        write_tensorrt(traceable, profiles, directory, Notes(name=type(model.native).__name__, text=text))
        write_companions(model, directory, GRAPH)

    def check(self, directory: Path) -> None:
        """Hold the graph against the rules, and run it in onnxruntime on noise."""
        from sottovoce.formats.onnx import OnnxSession
        from sottovoce.formats.tensorrt import require_allowed
        from sottovoce.formats.tensorrt_files import GRAPH
        from sottovoce_forced_aligner.graph_client import check_graph

        require_allowed(directory / GRAPH)
        check_graph(directory, OnnxSession(directory / GRAPH))


def _profiles(module: Any, settings: Mapping[str, Any]) -> Mapping[str, Profile]:
    """Return the shapes that an engine is built for."""
    from sottovoce.formats.tensorrt import Profile

    window, chunk = settings["window_frames"], settings["chunk_frames"]
    rate = settings["sampling_rate"] / settings["hop_length"]
    longest = min(_SECONDS[-1], settings["longest_seconds"])
    windows = [-(-round(min(seconds, longest) * rate) // window) for seconds in _SECONDS]
    features = [(1, settings["mels"], count * window) for count in windows]
    positions = [count * window // chunk * -(-chunk // 8) for count in windows]
    # A word has a token at least and two that mark its times; the prompt has a few around the audio.
    ids = [(1, 8), *((1, audio + 4 * words) for audio, words in zip(positions[1:], _WORDS[1:], strict=True))]
    return {"input_features": Profile(*features), "frames": Profile((1,), (1,), (1,)), "input_ids": Profile(*ids)}
