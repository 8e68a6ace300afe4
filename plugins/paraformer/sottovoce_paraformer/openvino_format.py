"""The format ``openvino`` of Paraformers: OpenVINO IR with the compressed model's own integers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model
    from sottovoce.formats.openvino import OpenVINOSession


class OpenVINO(Format):
    """``model.xml`` and ``model.bin``, for classes with hotwords ``model_eb`` too, and the files clients read.

    A float model is written in float32. A compressed one is written with its values of int8 and int4.
    """

    name = "openvino"
    label = Text(en="OpenVINO IR, in float, int8 or int4", zh="OpenVINO IR（浮点、int8 或 int4）")
    architectures = ("paraformer",)
    usage = """\
import openvino, soundfile, torch, yaml
from funasr.frontends.wav_frontend import WavFrontend
options = yaml.safe_load(open("{directory}/config.yaml", encoding="utf-8"))["frontend_conf"]
frontend = WavFrontend(cmvn_file="{directory}/am.mvn", **options)
audio = torch.from_numpy(soundfile.read("{audio}", dtype="float32")[0])
features, lengths = frontend(audio[None], torch.tensor([len(audio)]))
asr = openvino.compile_model("{directory}/model.xml", "CPU")  # with hotwords, bias_embed is the third input
logits = asr([features.numpy(), lengths.numpy().astype("int32")])["logits"]
tokens = [line.split()[0] for line in open("{directory}/tokens.txt", encoding="utf-8")]
print("".join(tokens[index] for index in logits[0].argmax(-1) if index > 2))
"""

    def refuse(self, model: Model) -> None:
        """Refuse what the graphs cannot express."""
        from sottovoce_paraformer.onnx_export import refuse_unsupported

        refuse_unsupported(model.module, self.name)

    def write(self, model: Model, directory: Path) -> None:
        """Write the graphs and the files beside them."""
        from sottovoce.formats.openvino import export_openvino
        from sottovoce.formats.quantized_weights import QuantizedWeights
        from sottovoce_paraformer.onnx_export import write_companions, write_graphs

        self.refuse(model)
        write_companions(model, directory)
        weights = QuantizedWeights(model.module)
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            for path in write_graphs(model.module, Path(folder)):
                export_openvino(path, directory / f"{path.stem}.xml", weights)

    def check(self, directory: Path) -> None:
        """Compile the graphs for the CPU, and run the recognizer on random features."""
        from sottovoce_paraformer.graph_client import check_graph

        check_graph("model.xml", *sessions(directory))


def sessions(directory: Path, threads: int | None = None) -> tuple[OpenVINOSession, OpenVINOSession | None]:
    """Return the recognizer and, where the model takes hotwords, their encoder, compiled for the CPU in float32.

    Raises:
        OutputError: OpenVINO is not installed, or does not compile the files.
    """
    from sottovoce.formats.openvino import OpenVINOSession

    encoder = directory / "model_eb.xml"
    recognizer = OpenVINOSession(directory / "model.xml", threads=threads)
    return recognizer, OpenVINOSession(encoder, threads=threads) if encoder.is_file() else None
