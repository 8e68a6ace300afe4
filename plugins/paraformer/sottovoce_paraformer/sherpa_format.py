"""The format ``sherpa-onnx`` of Paraformers: a directory that sherpa-onnx loads, and nothing that it does not read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.errors import OutputError, UsageError, reason
from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

_HOTWORDS = "bias_encoder"
_NOISE_SECONDS = 2


class SherpaOnnx(Format):
    """Graphs with their metadata under sherpa-onnx's names, and the tokens.

    A float model is written as ``model.onnx`` and, rounded to int8, as ``model.int8.onnx``. A compressed one is written
    with its quantized weights alone, as ``model.int8.onnx`` or, with weights of 4 bits and fewer, ``model.int4.onnx``.
    """

    name = "sherpa-onnx"
    label = Text(
        en="ONNX for sherpa-onnx, in float, int8 or int4", zh="供 sherpa-onnx 使用的 ONNX（浮点、int8 或 int4）"
    )
    architectures = ("paraformer",)
    usage = """\
import glob
import sherpa_onnx, soundfile
recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
    paraformer=sorted(glob.glob("{directory}/*.onnx"))[0], tokens="{directory}/tokens.txt"
)
stream = recognizer.create_stream()
samples, rate = soundfile.read("{audio}", dtype="float32")
stream.accept_waveform(rate, samples)
recognizer.decode_stream(stream)
print(stream.result.text)
"""

    def refuse(self, model: Model) -> None:
        """Refuse what the graphs cannot express."""
        from sottovoce_paraformer.onnx_export import refuse_unsupported

        refuse_unsupported(model.module, self.name)
        if hasattr(model.module, _HOTWORDS):
            name = type(model.module).__name__
            raise UsageError(f"sherpa-onnx runs no {name}, which takes hotwords; export it as onnx, for funasr-onnx")

    def write(self, model: Model, directory: Path) -> None:
        """Write the graphs and the tokens."""
        from sottovoce.formats.quantized_weights import QuantizedWeights
        from sottovoce_paraformer.onnx_export import export_onnx

        self.refuse(model)
        bits = QuantizedWeights(model.module).container_bits
        names = {"tokens.txt": "tokens.txt", "model_quant.onnx": f"model.int{4 if 4 in bits else 8}.onnx"}
        if not bits:
            names["model.onnx"] = "model.onnx"
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            export_onnx(model, Path(folder))
            for source, name in names.items():
                (Path(folder) / source).rename(directory / name)

    def check(self, directory: Path) -> None:
        """Run the graphs in sherpa-onnx on two seconds of noise; where it is not installed, in onnxruntime."""
        import numpy

        from sottovoce.formats.onnx import OnnxSession

        for path in sorted(directory.glob("*.onnx")):
            OnnxSession(path)
        try:
            import sherpa_onnx
        except ImportError:
            return
        noise = numpy.random.default_rng(0).normal(0, 0.1, 16000 * _NOISE_SECONDS).astype(numpy.float32)
        for path in sorted(directory.glob("*.onnx")):
            try:
                recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
                    paraformer=str(path), tokens=str(directory / "tokens.txt"), num_threads=1
                )
                stream = recognizer.create_stream()
                stream.accept_waveform(16000, noise)
                recognizer.decode_stream(stream)
            except Exception as error:  # Its errors are plain RuntimeErrors of C++.
                raise OutputError(f"{path.name}: sherpa-onnx does not run it ({reason(error)})") from error
