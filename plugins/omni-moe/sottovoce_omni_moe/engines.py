"""Engines that run exported towers within the model that they are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sottovoce import Engine

if TYPE_CHECKING:
    from sottovoce import Prediction, Sample


class OnnxRuntimeTowers(Engine):
    """onnxruntime on the float towers, PyTorch on all else."""

    name = "onnxruntime-towers"
    packages = ("onnxruntime",)
    is_part = True
    quantized: ClassVar[bool] = False

    def fits(self, directory: Path) -> bool:
        """Return whether towers and their settings lie there."""
        pattern = "*_tower_quant.onnx" if self.quantized else "*_tower.onnx"
        return (directory / "towers.json").is_file() and any(directory.glob(pattern))

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load the model, and let its towers be the exported ones."""
        from sottovoce.entrypoints.load import load
        from sottovoce_omni_moe.tower_sessions import open_towers, run_in_model_

        model = load(self.require_model(directory))
        run_in_model_(model.native, open_towers(directory, self.quantized, self.threads()))
        return lambda sample: model.architecture.runner.predict(model, sample)


class OnnxRuntimeTowersQuantized(OnnxRuntimeTowers):
    """onnxruntime on the towers in int8 or int4, PyTorch on all else."""

    name = "onnxruntime-towers-quantized"
    quantized = True
