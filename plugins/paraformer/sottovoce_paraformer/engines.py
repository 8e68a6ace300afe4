"""Engines that run Paraformers: FunASR, and the clients of the exported graphs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sottovoce import Engine

if TYPE_CHECKING:
    from sottovoce import Prediction, Sample


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
            return _prediction(results[0].get("text") if results else None)

        return run


class _Exported(Engine):
    """Client of an exported graph."""

    graph: ClassVar[str] = "model"
    """Name of the graph's file."""

    def fits(self, directory: Path) -> bool:
        """Return whether the graph and its vocabulary lie there."""
        return (directory / f"{self.graph}.onnx").is_file() and (directory / "tokens.txt").is_file()


class Sherpa(_Exported):
    """sherpa-onnx on the float graph."""

    name = "sherpa-onnx"
    packages = ("sherpa-onnx",)

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load by ``sherpa_onnx.OfflineRecognizer``."""
        import sherpa_onnx

        recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
            paraformer=str(directory / f"{self.graph}.onnx"),
            tokens=str(directory / "tokens.txt"),
            num_threads=_threads(),
        )

        def run(sample: Sample) -> Prediction:
            stream = recognizer.create_stream()
            stream.accept_waveform(16000, sample.audio)
            recognizer.decode_stream(stream)
            return _prediction(stream.result.text)

        return run


class SherpaInt8(Sherpa):
    """sherpa-onnx on the int8 graph."""

    name = "sherpa-onnx-int8"
    graph = "model_quant"


class FunASROnnx(_Exported):
    """FunASR's client in Python of the float graph, which needs numpy below 2."""

    name = "funasr-onnx"
    packages = ("funasr-onnx",)

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load by ``funasr_onnx.Paraformer``."""
        import funasr_onnx

        client = funasr_onnx.Paraformer(
            str(directory), quantize=self.graph == "model_quant", intra_op_num_threads=_threads()
        )

        def run(sample: Sample) -> Prediction:
            heard: Any = client(sample.audio)[0]["preds"]
            return _prediction(heard if isinstance(heard, str) else heard[0])

        return run


class FunASROnnxInt8(FunASROnnx):
    """FunASR's client in Python of the int8 graph."""

    name = "funasr-onnx-int8"
    graph = "model_quant"


def _threads() -> int:
    """Return as many threads as the other engines use: those of ``OMP_NUM_THREADS``, or all cores."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() else os.cpu_count() or 1


def _prediction(text: str | None) -> Prediction:
    from sottovoce import Prediction
    from sottovoce_paraformer.tokens import tokens_of

    return Prediction(text=text, tokens=tokens_of(text or ""))
