"""The format ``torchscript`` of Paraformers: traced graphs, for programs that still load TorchScript."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model
    from sottovoce.formats.torchscript import ScriptSession


class TorchScript(Format):
    """``model.torchscript.pt``, for classes with hotwords ``model_eb.torchscript.pt`` too, and what clients read.

    PyTorch deprecates TorchScript, and its archive holds pickles of its own. ``torch-export`` has neither fault.
    """

    name = "torchscript"
    label = Text(en="traced TorchScript, deprecated by PyTorch", zh="TorchScript 跟踪图（PyTorch 已弃用）")
    architectures = ("paraformer",)
    usage = """\
import soundfile, torch, yaml
from funasr.frontends.wav_frontend import WavFrontend
options = yaml.safe_load(open("{directory}/config.yaml", encoding="utf-8"))["frontend_conf"]
frontend = WavFrontend(cmvn_file="{directory}/am.mvn", **options)
audio = torch.from_numpy(soundfile.read("{audio}", dtype="float32")[0])
features, lengths = frontend(audio[None], torch.tensor([len(audio)]))
asr = torch.jit.load("{directory}/model.torchscript.pt")  # with hotwords, bias_embed is the third input
logits = asr(features, lengths.int())[0]
tokens = [line.split()[0] for line in open("{directory}/tokens.txt", encoding="utf-8")]
print("".join(tokens[index] for index in logits[0].argmax(-1) if index > 2))
"""

    def refuse(self, model: Model) -> None:
        """Refuse what the graphs cannot express."""
        from sottovoce_paraformer.onnx_export import refuse_unsupported

        refuse_unsupported(model.module, self.name)

    def write(self, model: Model, directory: Path) -> None:
        """Write the traces and the files beside them."""
        from sottovoce.formats.torchscript import export_script
        from sottovoce_paraformer.onnx_export import write_companions
        from sottovoce_paraformer.stored_graphs import stored_graphs

        graphs = stored_graphs(model, self.name)
        write_companions(model, directory)
        for graph in graphs:
            export_script(
                graph.module,
                graph.inputs,
                directory / f"{graph.name}.torchscript.pt",
                input_names=graph.input_names,
                output_names=graph.output_names,
                dynamic_axes=graph.dynamic_axes,
            )

    def check(self, directory: Path) -> None:
        """Load the traces, and run the recognizer on random features of another length."""
        from sottovoce_paraformer.graph_client import check_graph

        check_graph("model.torchscript.pt", *sessions(directory))


def sessions(directory: Path) -> tuple[ScriptSession, ScriptSession | None]:
    """Return the recognizer and, where the model takes hotwords, their encoder, as PyTorch loads them.

    Raises:
        OutputError: PyTorch does not read the files.
    """
    from sottovoce.formats.torchscript import ScriptSession

    encoder = directory / "model_eb.torchscript.pt"
    recognizer = ScriptSession(directory / "model.torchscript.pt")
    return recognizer, ScriptSession(encoder) if encoder.is_file() else None
