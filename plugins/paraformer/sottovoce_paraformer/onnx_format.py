"""The format ``onnx`` of Paraformers: what FunASR's runtimes and sherpa-onnx run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError
from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

_FRAMES, _HOTWORDS = 30, 2
"""Sizes of the random inputs of a check."""


class ONNX(Format):
    """Graphs in float32 and with quantized weights, with the files that the clients read beside them.

    A compressed model keeps its values of int8 and int4; the weights of a float model are rounded to int8.
    """

    name = "onnx"
    label = Text(
        en="ONNX for funasr-onnx, FunASR's C++ runtime and sherpa-onnx",
        zh="ONNX，供 funasr-onnx、FunASR 的 C++ 运行时和 sherpa-onnx 使用",
    )
    architectures = ("paraformer",)
    usage = """\
from funasr_onnx import Paraformer  # or ContextualParaformer, SeacoParaformer, as the model's class is
asr = Paraformer("{directory}", quantize=True)
print(asr("{audio}"))
"""

    def refuse(self, model: Model) -> None:
        """Refuse what the graphs cannot express."""
        from sottovoce_paraformer.onnx_export import refuse_unsupported

        refuse_unsupported(model.module, self.name)

    def write(self, model: Model, directory: Path) -> None:
        """Write the graphs and the files beside them."""
        from sottovoce_paraformer.onnx_export import export_onnx

        export_onnx(model, directory)

    def check(self, directory: Path) -> None:
        """Run both recognizers on random features, with hotwords where the model takes them."""
        import numpy

        from sottovoce.formats.onnx import OnnxSession

        random = numpy.random.default_rng(0)
        for suffix in ("", "_quant"):
            session = OnnxSession(directory / f"model{suffix}.onnx")
            features = random.standard_normal((1, _FRAMES, session.inputs["speech"][2]), numpy.float32)
            inputs: dict[str, Any] = {"speech": features, "speech_lengths": numpy.array([_FRAMES], numpy.int32)}
            if "bias_embed" in session.inputs:
                encoder = OnnxSession(directory / f"model_eb{suffix}.onnx")
                hotwords = numpy.ones((_HOTWORDS, encoder.inputs["hotword"][1]), numpy.int32)
                # The embedding after the last token stands for a hotword.
                inputs["bias_embed"] = encoder.run({"hotword": hotwords})["hw_embed"][-1][None]
            logits = session.run(inputs)["logits"]
            if not numpy.isfinite(logits).all():
                raise OutputError(f"{session.path.name}: gives numbers that are not finite; is a weight damaged?")
