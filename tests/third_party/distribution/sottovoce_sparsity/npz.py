"""The export format ``npz``: weights as NumPy arrays."""

from __future__ import annotations

from pathlib import Path

from sottovoce import Format, Model, Text
from sottovoce.errors import OutputError

WEIGHTS = "weights.npz"


class Npz(Format):
    """Weights as NumPy arrays, one for each tensor."""

    name = "npz"
    label = Text(en="weights as NumPy arrays", zh="NumPy 数组形式的权重")
    usage = 'import numpy\n\nprint(numpy.load("{directory}/weights.npz").files)'

    def write(self, model: Model, directory: Path) -> None:
        """Write all tensors as float32."""
        import numpy

        tensors = {name: tensor.float().cpu().numpy() for name, tensor in model.module.state_dict().items()}
        numpy.savez(directory / WEIGHTS, **tensors)

    def check(self, directory: Path) -> None:
        """Load the arrays.

        Raises:
            OutputError: A value is not finite.
        """
        import numpy

        with numpy.load(directory / WEIGHTS) as arrays:
            broken = [name for name in arrays.files if not numpy.isfinite(arrays[name]).all()]
        if broken:
            raise OutputError(f"{WEIGHTS}: {broken[0]!r} is not finite")
