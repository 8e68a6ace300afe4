"""Refit of a layer that lost some of its inputs, with its error on samples that the fit did not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sottovoce.errors import SamplesError
from sottovoce.pruning.description import LayerErrors
from sottovoce.pruning.slicing import set_weight_

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.pruning.refit import Regression
    from sottovoce.pruning.step import PruneHeads, PruneWidth

_DAMPS = (1.0, 10.0, 100.0)
"""Factors of the damping that are tried, until the fit holds on held-out samples."""


def compensate_(
    output: nn.Linear,
    step: PruneHeads | PruneWidth,
    before: int,
    kept: Sequence[int],
    fitted: Regression,
    held_out: Regression | None,
) -> LayerErrors:
    """Refit a layer by least squares, where the step says so and the fit holds on held-out samples.

    Args:
        output: The layer, with the columns that stay.
        step: The step.
        before: Number of units or heads before.
        kept: Numbers of those that stay.
        fitted: Regression of the layer's outputs on the samples of the fit.
        held_out: The same on the others; ``None`` if there are none.

    Returns:
        The relative errors of the outputs before and after the refit.
    """
    judge = fitted if held_out is None else held_out
    plain, has_bias = output.weight.detach().clone(), output.bias is not None
    error_before_fit = judge.error(plain)
    fit_error, error = fitted.error(plain), error_before_fit
    for factor in _DAMPS if step.refit else ():
        weight, shift = fitted.fit(plain, factor * step.damp, has_bias)
        if (error_after := judge.error(weight, shift)) < error_before_fit:
            fit_error, error = fitted.error(weight, shift), error_after
            # What is stored is fitted on all samples.
            both = fitted if held_out is None else fitted.merged(held_out)
            set_weight_(output, *both.fit(plain, factor * step.damp, has_bias))
            break
    return LayerErrors(
        before=before,
        kept=tuple(kept),
        rows=fitted.rows,
        error_before_fit=error_before_fit,
        error=error,
        fit_error=fit_error if step.refit and held_out is not None else None,
    )


def check_rows(layer: str, rows: int, inputs: int, samples: int, what: str) -> None:
    """Refuse a fit of more inputs than there are rows.

    Args:
        layer: Name of the layer, for errors.
        rows: Rows of its inputs that the samples gave.
        inputs: Number of inputs that stay.
        samples: Number of samples.
        what: Plural name of the inputs.

    Raises:
        SamplesError: No sample reaches the layer, or too few rows do; says how many are needed.
    """
    if not rows:
        raise SamplesError(f"no sample reaches the layer {layer!r}; give samples that do")
    if rows < inputs:
        raise SamplesError(
            f"{layer}: {rows} rows of calibration data are too few to fit {inputs} {what} by least squares; "
            f"give at least {inputs} rows, which is about {-(-samples * inputs // rows)} samples like these"
        )


def notes_on_fits(step: PruneHeads | PruneWidth, layers: Mapping[str, LayerErrors]) -> Iterator[str]:
    """Yield a note on the layers that a refit would have harmed, if there are any."""
    unfitted = [
        name for name, layer in layers.items() if layer.error is not None and layer.error == layer.error_before_fit
    ]
    if step.refit and unfitted:
        yield (
            f"{len(unfitted)} layers such as {unfitted[0]!r} keep their weights as they were: a fit would have raised "
            "the error on held-out samples"
        )
