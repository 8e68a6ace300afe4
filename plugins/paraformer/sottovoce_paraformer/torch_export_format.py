"""The format ``torch-export`` of Paraformers: a program that PyTorch runs without FunASR's or Sottovoce's classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import UsageError
from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model
    from sottovoce.formats.torch_export import ProgramSession


class TorchExport(Format):
    """``model.pt2``, for classes with hotwords ``model_eb.pt2`` too, and the files that clients read.

    A compressed model's values of int8 and int4 are stored as they are; the program makes the float weights of them.
    ``torch.export`` unrolls an LSTM over time, so a predictor that has one gives no timestamps here.
    """

    name = "torch-export"
    label = Text(en="a program of torch.export (.pt2)", zh="torch.export 程序（.pt2）")
    architectures = ("paraformer",)
    usage = """\
import soundfile, torch, yaml
from funasr.frontends.wav_frontend import WavFrontend
options = yaml.safe_load(open("{directory}/config.yaml", encoding="utf-8"))["frontend_conf"]
frontend = WavFrontend(cmvn_file="{directory}/am.mvn", **options)
audio = torch.from_numpy(soundfile.read("{audio}", dtype="float32")[0])
features, lengths = frontend(audio[None], torch.tensor([len(audio)]))
asr = torch.export.load("{directory}/model.pt2").module()  # with hotwords, bias_embed is the third input
logits = asr(features, lengths.int())[0]
tokens = [line.split()[0] for line in open("{directory}/tokens.txt", encoding="utf-8")]
print("".join(tokens[index] for index in logits[0].argmax(-1) if index > 2))
"""

    def refuse(self, model: Model) -> None:
        """Refuse what the graphs cannot express."""
        from sottovoce_paraformer.onnx_export import refuse_unsupported

        refuse_unsupported(model.module, self.name)
        _capturable(model.module, self.name)

    def write(self, model: Model, directory: Path) -> None:
        """Write the programs and the files beside them."""
        from sottovoce.formats.torch_export import export_program
        from sottovoce_paraformer.onnx_export import write_companions
        from sottovoce_paraformer.onnx_graphs import Recognizer
        from sottovoce_paraformer.stored_graphs import stored_graphs

        self.refuse(model)
        graphs = stored_graphs(model, self.name)
        write_companions(model, directory)
        for graph in graphs:
            module, outputs = graph.module, graph.output_names
            if isinstance(module, Recognizer) and module.timestamps is not None and module.timestamps.blstm is not None:
                module.timestamps, outputs = None, outputs[:2]
            export_program(
                module,
                graph.inputs,
                directory / f"{graph.name}.pt2",
                input_names=graph.input_names,
                output_names=outputs,
                dynamic_axes=graph.dynamic_axes,
            )

    def check(self, directory: Path) -> None:
        """Load the programs, and run the recognizer on random features of another length."""
        from sottovoce_paraformer.graph_client import check_graph

        check_graph("model.pt2", *sessions(directory))


def _capturable(module: Any, format: str) -> None:
    """Refuse models of which the number of hotwords decides what the graph is."""
    if hasattr(module, "seaco_decoder"):
        raise UsageError(
            f"{type(module).__name__} cannot be exported as {format}: how many hotwords it keeps depends on how many "
            "there are; export it as onnx or openvino"
        )


def sessions(directory: Path) -> tuple[ProgramSession, ProgramSession | None]:
    """Return the recognizer and, where the model takes hotwords, their encoder, as PyTorch loads them.

    Raises:
        SottovoceError: PyTorch does not read the files, or they hold pickles.
    """
    from sottovoce.formats.torch_export import ProgramSession

    encoder = directory / "model_eb.pt2"
    return ProgramSession(directory / "model.pt2"), ProgramSession(encoder) if encoder.is_file() else None
