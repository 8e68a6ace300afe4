"""The step ``cast``: what stays in floating point is stored in 16 bits."""

from __future__ import annotations

from typing import Literal

from sottovoce.recipe.step import Step
from sottovoce.report import StepReport
from sottovoce.text.translations import Text

STORED_FLOATS = "stored_floats"
"""Key of the dtype in a report's details."""


class Cast(Step):
    """Round the float32 weights that earlier steps left, and store them in 16 bits.

    The model still computes with them in float32, and any library reads them as such. Give it as the last step: weights
    that a later one changes are stored in 32 bits again. What has 16 bits already stays as it is.
    """

    dtype: Literal["float16", "bfloat16"] = "float16"
    """``float16`` is eight times as exact, ``bfloat16`` has the range of float32."""

    @property
    def stored_bits(self) -> str:
        """Bits of the floats."""
        return {"float16": "fp16", "bfloat16": "bf16"}[self.dtype]

    def summary(self, report: StepReport) -> Text:
        """Return how many parameters are stored in 16 bits now."""
        count = f"{report.details['parameters']:,}"
        return Text(
            en=f"Stored {count} parameters that stay in floating point as {self.dtype}; they are computed with in "
            "float32.",
            zh=f"将 {count} 个保持浮点的参数存为 {self.dtype}，仍以 float32 计算。",
        )

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the dtype."""
        return (self.dtype,)
