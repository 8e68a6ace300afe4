"""Sottovoce itself as an engine: ``load``, and the family's own function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.engines import Engine

if TYPE_CHECKING:
    from sottovoce.samples import Prediction, Sample


class Sottovoce(Engine):
    """Sottovoce's loader and its fast paths."""

    name = "sottovoce"
    packages = ("sottovoce",)

    def fits(self, directory: Path) -> bool:
        """Return whether a plugin describes the class that the directory names."""
        from sottovoce.checkpoint.model_class import class_name
        from sottovoce.errors import SottovoceError
        from sottovoce.plugins.host import default_host

        try:
            default_host().owner_of(class_name(directory))
            if not _is_own(directory / "config.json"):
                return False
        except SottovoceError:
            return False
        return any(directory.glob("*.safetensors")) or any(directory.glob("*.pt"))

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load the directory as ``sottovoce.load`` does."""
        from sottovoce.entrypoints.load import load

        model = load(directory)
        return lambda sample: model.architecture.runner.predict(model, sample)


def _is_own(path: Path) -> bool:
    """Return whether a configuration names no other quantizer, as exports for other engines do."""
    from sottovoce.checkpoint.safe_config import read_config
    from sottovoce.formats.compressed_tensors import METHOD

    settings = read_config(path, (), references=True).get("quantization_config") if path.is_file() else None
    return not isinstance(settings, dict) or settings.get("quant_method", METHOD) == METHOD
