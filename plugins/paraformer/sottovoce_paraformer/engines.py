"""Engines that run Paraformers: FunASR, and the clients of the exported graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sottovoce import Engine

if TYPE_CHECKING:
    from sottovoce import Prediction, Sample


_QUANTIZED = ("model_quant", "model.int8", "model.int4")


class FunASR(Engine):
    """FunASR's own ``AutoModel``, with the compressed classes registered."""

    name = "funasr"
    packages = ("funasr",)

    def fits(self, directory: Path) -> bool:
        """Return whether a recognizer's configuration and weights lie there."""
        from sottovoce.checkpoint.model_class import class_name
        from sottovoce.errors import SottovoceError
        from sottovoce_paraformer.architectures import PARAFORMER

        try:
            is_known = (directory / "config.yaml").is_file() and class_name(directory) in PARAFORMER.matches
        except SottovoceError:
            return False
        return is_known and any((directory / name).is_file() for name in ("model.safetensors", "model.pt"))

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load by ``funasr.AutoModel``; only the tokens of its text are counted here."""
        import contextlib
        import io

        import torch

        with contextlib.redirect_stdout(io.StringIO()):
            import funasr

            import sottovoce_paraformer.register as register

            threads = torch.get_num_threads()
            model = funasr.AutoModel(
                model=str(directory), disable_update=True, disable_pbar=True, log_level="ERROR", ncpu=threads
            )
        del register

        def run(sample: Sample) -> Prediction:
            results = model.generate(input=sample.audio, fs=16000, disable_pbar=True)
            return prediction(results[0].get("text") if results else None)

        return run


class _Exported(Engine):
    """Client of an exported graph."""

    graphs: ClassVar[tuple[str, ...]] = ("model",)
    """Names of the graph's file, of which the first that is there is run."""

    def fits(self, directory: Path) -> bool:
        """Return whether the graph and its vocabulary lie there."""
        return self._graph(directory) is not None and (directory / "tokens.txt").is_file()

    def _graph(self, directory: Path) -> Path | None:
        paths = (directory / f"{name}.onnx" for name in self.graphs)
        return next((path for path in paths if path.is_file()), None)


class Sherpa(_Exported):
    """sherpa-onnx on the float graph."""

    name = "sherpa-onnx"
    packages = ("sherpa-onnx",)

    def fits(self, directory: Path) -> bool:
        """Return whether it is a graph without hotwords."""
        return super().fits(directory) and not (directory / "model_eb.onnx").is_file()

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load by ``sherpa_onnx.OfflineRecognizer``."""
        import sherpa_onnx

        recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
            paraformer=str(self._graph(directory)),
            tokens=str(directory / "tokens.txt"),
            num_threads=self.threads(),
        )

        def run(sample: Sample) -> Prediction:
            stream = recognizer.create_stream()
            stream.accept_waveform(16000, sample.audio)
            recognizer.decode_stream(stream)
            return prediction(stream.result.text)

        return run


class SherpaQuantized(Sherpa):
    """sherpa-onnx on the graph in int8 or int4."""

    name = "sherpa-onnx-quantized"
    graphs = _QUANTIZED


class OnnxRuntime(_Exported):
    """onnxruntime alone on the float graph, without PyTorch and FunASR."""

    name = "onnxruntime"
    packages = ("onnxruntime",)
    graphs: ClassVar[tuple[str, ...]] = ("model", "model.trt")

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load the graph and the tokens."""
        from sottovoce_paraformer.onnx_client import OnnxClient

        path = self._graph(directory)
        assert path is not None
        client = OnnxClient(path, self.threads())
        return lambda sample: prediction(client(sample.audio))


class OnnxRuntimeQuantized(OnnxRuntime):
    """onnxruntime alone on the graph in int8 or int4."""

    name = "onnxruntime-quantized"
    graphs = _QUANTIZED


class FunASROnnx(_Exported):
    """FunASR's client in Python of the float graph, which needs numpy below 2."""

    name = "funasr-onnx"
    packages = ("funasr-onnx",)

    def fits(self, directory: Path) -> bool:
        """Return whether its configuration lies beside the graph."""
        return super().fits(directory) and (directory / "config.yaml").is_file()

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load by ``funasr_onnx.Paraformer``."""
        import funasr_onnx

        client = funasr_onnx.Paraformer(
            str(directory), quantize="model_quant" in self.graphs, intra_op_num_threads=self.threads()
        )

        def run(sample: Sample) -> Prediction:
            heard: Any = client(sample.audio)[0]["preds"]
            return prediction(heard if isinstance(heard, str) else heard[0])

        return run


class FunASROnnxQuantized(FunASROnnx):
    """FunASR's client in Python of the graph in int8 or int4."""

    name = "funasr-onnx-quantized"
    graphs = ("model_quant",)


def prediction(text: str | None) -> Prediction:
    """Return a text with the tokens that are counted of it."""
    from sottovoce import Prediction
    from sottovoce_paraformer.tokens import tokens_of

    return Prediction(text=text, tokens=tokens_of(text or ""))
