"""Engines that run exported aligners."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sottovoce import Engine

if TYPE_CHECKING:
    from sottovoce import Prediction, Sample
    from sottovoce_forced_aligner.graph_client import Session


class _Graph(Engine):
    """Engine of one kind of file."""

    file: ClassVar[str]
    """Name of the graph's file."""

    def fits(self, directory: Path) -> bool:
        """Return whether the graph and the files that the client reads lie there."""
        return all((directory / name).is_file() for name in (self.file, "aligner.json", "tokenizer.json"))

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load the graph, the tokenizer and the settings."""
        from sottovoce_forced_aligner import graph_client

        aligner = graph_client.client(directory, self.session(directory / self.file))
        return lambda sample: graph_client.predict(aligner, sample)

    @abstractmethod
    def session(self, path: Path) -> Session:
        """Load the graph."""


class OnnxRuntime(_Graph):
    """onnxruntime on the float graph."""

    name = "onnxruntime-aligner"
    packages = ("onnxruntime", "tokenizers")
    file = "model.onnx"

    def session(self, path: Path) -> Session:
        """Load the graph."""
        from sottovoce.formats.onnx import OnnxSession

        return OnnxSession(path, self.threads())


class OnnxRuntimeTensorRT(OnnxRuntime):
    """onnxruntime on the CPU on the graph for TensorRT."""

    name = "onnxruntime-aligner-tensorrt"
    file = "model.trt.onnx"


class OnnxRuntimeQuantized(OnnxRuntime):
    """onnxruntime on the graph in int8 or int4."""

    name = "onnxruntime-aligner-quantized"
    file = "model_quant.onnx"


class OpenVINO(_Graph):
    """OpenVINO on the CPU, in float32 where weights are float."""

    name = "openvino-aligner"
    packages = ("openvino", "tokenizers")
    file = "model.xml"

    def session(self, path: Path) -> Session:
        """Compile the graph."""
        from sottovoce.formats.openvino import OpenVINOSession

        return OpenVINOSession(path, threads=self.threads())


class TorchExport(_Graph):
    """PyTorch on a program of ``torch.export``."""

    name = "torch-export-aligner"
    packages = ("torch", "tokenizers")
    file = "model.pt2"

    def session(self, path: Path) -> Session:
        """Load the program."""
        from sottovoce.formats.torch_export import ProgramSession

        return ProgramSession(path)


class ExecuTorch(_Graph):
    """ExecuTorch's runtime, with XNNPACK."""

    name = "executorch-aligner"
    packages = ("executorch", "tokenizers")
    file = "model.pte"

    def session(self, path: Path) -> Session:
        """Load the method."""
        from sottovoce_forced_aligner.executorch_format import ExecuTorchAligner

        return ExecuTorchAligner(path)
