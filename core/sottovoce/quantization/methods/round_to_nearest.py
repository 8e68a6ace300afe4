"""Rounding to nearest: every weight takes the nearest quantized value."""

from __future__ import annotations

from sottovoce.quantization.method import Method, method
from sottovoce.text.translations import Text


@method("round_to_nearest")
class RoundToNearest(Method):
    """Round every weight to the nearest value of its group's scale."""

    label = Text(en="rounding to nearest", zh="就近舍入")
    description = Text(
        en="Every weight takes the nearest value; needs no samples.", zh="每个权重取最近的量化值;不需要样本。"
    )
    types = ("int", "float")
