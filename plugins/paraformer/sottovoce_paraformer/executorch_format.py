"""The format ``executorch`` of Paraformers: two methods of one ``.pte`` file, for phones and small boards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import UsageError
from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

FRAMES = 500
"""Greatest number of frames of 60 ms: half a minute."""
TOKENS = FRAMES + 1
"""Greatest number of tokens: no frame fires more than one, and the tail one more."""
_FILE = "model.pte"
_TAIL = "tail_threshold"


class ExecuTorch(Format):
    """``model.pte`` with the methods ``encoder`` and ``decoder``, and the files that clients read.

    XNNPACK computes what it can. It takes a compressed model's weights of int8 as they are, and those of int4 where
    groups are a multiple of 32 inputs; it rounds the inputs of both to int8.
    """

    name = "executorch"
    label = Text(en="ExecuTorch with XNNPACK, in float, int8 or int4", zh="ExecuTorch + XNNPACK（浮点、int8 或 int4）")
    architectures = ("paraformer",)

    def refuse(self, model: Model) -> None:
        """Refuse what the graphs cannot express."""
        from sottovoce_paraformer.onnx_export import refuse_unsupported

        refuse_unsupported(model.module, self.name)
        if hasattr(model.module, "bias_encoder"):
            name = type(model.module).__name__
            raise UsageError(f"{name} cannot be exported as {self.name}, which takes no hotwords; use onnx or openvino")

    def write(self, model: Model, directory: Path) -> None:
        """Write the methods and the files beside them."""
        import torch

        from sottovoce.formats.executorch import Method, export_executorch
        from sottovoce.formats.quantized_weights import QuantizedWeights
        from sottovoce.formats.xnnpack_weights import store_for_xnnpack
        from sottovoce_paraformer.executorch_graphs import DecoderHalf, EncoderHalf
        from sottovoce_paraformer.onnx_export import on_cpu, write_companions
        from sottovoce_paraformer.onnx_graphs import Recognizer

        self.refuse(model)
        write_companions(model, directory)
        recognizer: Any = on_cpu(Recognizer(model.module))
        store_for_xnnpack(recognizer, QuantizedWeights(model.module))
        time = {1: ("time", FRAMES)}
        speech, width = torch.randn(1, 30, recognizer.encoder.width), recognizer.decoder.after_norm.normalized_shape[0]
        encoder = Method(name="encoder", module=EncoderHalf(recognizer), inputs=(speech,), lengths={"speech": time})
        decoder = Method(
            name="decoder",
            module=DecoderHalf(recognizer),
            inputs=(torch.randn(1, 5, width), torch.randn(1, 30, recognizer.encoder.after_norm.normalized_shape[0])),
            lengths={"embeddings": {1: ("tokens", TOKENS)}, "memory": time},
        )
        export_executorch((encoder, decoder), directory / _FILE, {_TAIL: recognizer.predictor.tail_threshold})

    def check(self, directory: Path) -> None:
        """Run the methods in ExecuTorch's runtime on random features."""
        from sottovoce_paraformer.graph_client import check_graph

        check_graph(_FILE, ExecuTorchRecognizer(directory), None)


class ExecuTorchRecognizer:
    """Both methods, and the sums between them, as one graph."""

    def __init__(self, directory: Path) -> None:
        """Load the file.

        Raises:
            OutputError: ExecuTorch is not installed, or does not read the file.
        """
        from sottovoce.formats.executorch import ExecuTorchSession

        self._session = ExecuTorchSession(directory / _FILE)
        self._tail = float(self._session.constant(_TAIL))

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Greatest shapes of the inputs by name."""
        return {"speech": self._session.greatest("encoder")[0], "speech_lengths": (1,)}

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run one utterance, and return ``logits`` ``[1, tokens, vocabulary]`` and ``token_num`` ``[1]``.

        Raises:
            OutputError: There is more than one utterance, or more frames or tokens than memory was planned for.
        """
        import numpy

        from sottovoce_paraformer.executorch_graphs import gather

        memory, alphas = self._session.run("encoder", [inputs["speech"]])
        embeddings = gather(memory[0], alphas[0], self._tail)
        count = len(embeddings)
        # Nothing is decoded in silence; one token of zeros gives the size of the vocabulary.
        tokens = embeddings if count else numpy.zeros((1, memory.shape[2]), numpy.float32)
        logits = self._session.run("decoder", [tokens[None], memory])[0]
        return {"logits": logits[:, :count], "token_num": numpy.array([count], numpy.int32)}
