"""Sums of second moments that are the same in whatever order, and by how many processes, the inputs are added.

What a call brings is summed in float32, and the calls in float64, which has room for the digits of all of them: but for
its last digits, which float32 lacks, the sum is exact.
"""

from __future__ import annotations

from torch import Tensor, nn

from sottovoce.runtime.backends.onednn_float import matmul_transposed

_TILE = 512
"""Rows and columns that are multiplied at a time: their sums stay in the processor's cache while they are added."""
_ROWS = 64
"""Inputs are multiplied in multiples of it, on the CPU: oneDNN compiles a kernel for every number that it meets."""


def add_second_moments_(sums: Tensor, x: Tensor) -> None:
    """Add the second moments of inputs to sums, below the diagonal alone.

    Args:
        sums: float64 ``[in, in]``.
        x: Inputs, float32 ``[rows, in]``.
    """
    missing = -len(x) % _ROWS if x.device.type == "cpu" else 0
    # Columns of zeros change nothing.
    across = nn.functional.pad(x, (0, 0, 0, missing)).t().contiguous()
    for start in range(0, len(sums), _TILE):
        rows = slice(start, start + _TILE)
        for before in range(0, start + 1, _TILE):
            columns = slice(before, before + _TILE)
            sums[rows, columns] += matmul_transposed(across[rows], across[columns])


def mean_of(sums: Tensor, rows: int) -> Tensor:
    """Return the mean second moments, both halves of them, float64 ``[in, in]``."""
    mean = (sums / max(rows, 1)).tril_()
    return mean + mean.tril(-1).t()
