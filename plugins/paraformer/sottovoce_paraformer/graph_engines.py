"""Engines of exported graphs that only need FunASR's filter banks: OpenVINO, programs of PyTorch, ExecuTorch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sottovoce import Engine
from sottovoce_paraformer.engines import prediction

if TYPE_CHECKING:
    from sottovoce import Prediction, Sample
    from sottovoce_paraformer.graph_client import Session


class _Graph(Engine):
    """Engine of one kind of file."""

    file: ClassVar[str]
    """Name of the recognizer's file."""

    def fits(self, directory: Path) -> bool:
        """Return whether the graph and the files that the client reads lie there."""
        return all((directory / name).is_file() for name in (self.file, "tokens.txt", "am.mvn", "config.yaml"))

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load the graph, the front end and the tokens."""
        from sottovoce_paraformer.graph_client import GraphClient

        client = GraphClient.beside(directory, *self.sessions(directory))
        return lambda sample: prediction(client(sample.audio))

    @abstractmethod
    def sessions(self, directory: Path) -> tuple[Session, Session | None]:
        """Load the recognizer and, where the model takes hotwords, their encoder."""


class OpenVINO(_Graph):
    """OpenVINO on the CPU, in float32 where weights are float."""

    name = "openvino"
    packages = ("openvino",)
    file = "model.xml"

    def sessions(self, directory: Path) -> tuple[Session, Session | None]:
        """Compile the graphs."""
        from sottovoce_paraformer.openvino_format import sessions

        return sessions(directory, self.threads())


class TorchExport(_Graph):
    """PyTorch on a program of ``torch.export``."""

    name = "torch-export"
    packages = ("torch",)
    file = "model.pt2"

    def sessions(self, directory: Path) -> tuple[Session, Session | None]:
        """Load the programs."""
        from sottovoce_paraformer.torch_export_format import sessions

        return sessions(directory)


class TorchScript(_Graph):
    """PyTorch on a trace in TorchScript."""

    name = "torchscript"
    packages = ("torch",)
    file = "model.torchscript.pt"

    def sessions(self, directory: Path) -> tuple[Session, Session | None]:
        """Load the traces."""
        from sottovoce_paraformer.torchscript_format import sessions

        return sessions(directory)


class ExecuTorch(_Graph):
    """ExecuTorch's runtime, with XNNPACK."""

    name = "executorch"
    packages = ("executorch",)
    file = "model.pte"

    def sessions(self, directory: Path) -> tuple[Session, Session | None]:
        """Load the methods."""
        from sottovoce_paraformer.executorch_format import ExecuTorchRecognizer

        return ExecuTorchRecognizer(directory), None
