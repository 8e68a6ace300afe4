"""The format ``onnx`` of omni models: their towers, each a graph of its own, and a client that needs no PyTorch."""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

SETTINGS, CLIENT = "towers.json", "towers.py"


class ONNX(Format):
    """``audio_tower.onnx`` and ``vision_tower.onnx`` in float32, and ``towers.py``, which runs them.

    A tower with compressed layers has ``audio_tower_quant.onnx`` or ``vision_tower_quant.onnx`` too, with the model's
    values of int8 and int4. Audio and pictures may be of any size. Thinker, talker and vocoder are not in it.
    """

    name = "onnx"
    label = Text(en="ONNX of the towers, with a client", zh="音频塔与视觉塔的 ONNX，附带客户端")
    architectures = ("qwen3-omni-moe",)
    usage = """\
import sys
from pathlib import Path
import soundfile
from transformers import WhisperFeatureExtractor
sys.path.insert(0, "{directory}")
from towers import Towers  # needs onnxruntime and numpy
towers = Towers(Path("{directory}"))
audio, rate = soundfile.read("{audio}", dtype="float32")  # one channel, 16 kHz
extractor = WhisperFeatureExtractor(feature_size=towers.settings["audio_tower"]["mels"])
batch = extractor(audio, sampling_rate=rate, return_attention_mask=True, return_tensors="np")
print(towers.hear(batch["input_features"], batch["attention_mask"]).shape)
"""

    def write(self, model: Model, directory: Path) -> None:
        """Write the graphs and the files beside them."""
        from sottovoce.formats.onnx_files import write_onnx
        from sottovoce.formats.quantized_weights import QuantizedWeights
        from sottovoce_omni_moe.tower_graphs import graph_of, towers_of

        settings = {}
        for name, tower in towers_of(model.native).items():
            with _in_memory(model, tower):
                graph = graph_of(name, tower)
                float_path, quantized_path = (directory / f"{name}{ending}.onnx" for ending in ("", "_quant"))
                write_onnx(graph, float_path, QuantizedWeights(tower), quantized_path)
                settings[name] = _settings(graph.module, tower)
        text = json.dumps(settings, indent=1)
        (directory / SETTINGS).write_text(text + "\n", encoding="utf-8")
        shutil.copyfile(Path(__file__).with_name("towers_client.py"), directory / CLIENT)

    def check(self, directory: Path) -> None:
        """Run the graphs in onnxruntime on noise, by the client that lies beside them."""
        from sottovoce_omni_moe.tower_sessions import check_graphs

        check_graphs(directory)


def _in_memory(model: Model, tower: Any) -> AbstractContextManager[None]:
    """Return a context with the tower's weights in memory, also where the model's blocks are streamed."""
    if model.stream is None:
        return nullcontext()
    return model.stream.loaded([tower], model.rename or str)


def _settings(module: Any, tower: Any) -> dict[str, Any]:
    """Return what the client needs to know of a tower, in numbers."""
    from sottovoce_omni_moe.tower_graphs import AudioTower

    if isinstance(module, AudioTower):
        chunk = 2 * tower.n_window
        return {"mels": tower.num_mel_bins, "chunk_frames": chunk, "window_chunks": tower.n_window_infer // chunk}
    return {
        "values": module.patch_embed.in_features,
        "merge": tower.spatial_merge_size,
        "table_side": tower.num_grid_per_side,
        "depths": module.depths,
    }
