"""Refit of a layer that lost some of its inputs, with its error on samples that the fit did not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sottovoce.errors import SamplesError
from sottovoce.pruning.description import LayerErrors
from sottovoce.pruning.slicing import set_weight_
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.pruning.refit import Regression
    from sottovoce.pruning.step import PruneHeads, PruneWidth

_DAMPS = (1.0, 3.0, 10.0)
"""Factors of the step's damping that are tried: where rows are few, more of it keeps a fit from following them."""
_LEAST_ROWS = 0.25
"""Rows for an input that stays, below which a fit is refused."""


class Regressions(NamedTuple):
    """Regressions of a layer's outputs on the inputs that stay."""

    fitted: Regression
    """On the samples of the fit."""
    held_out: Regression | None
    """On the others; ``None`` if there are none."""
    stored: Regression
    """On all samples, by which the stored weight is fitted, and makes up for what earlier layers changed."""


def compensate_(
    output: nn.Linear, step: PruneHeads | PruneWidth, before: int, kept: Sequence[int], regressions: Regressions
) -> LayerErrors:
    """Refit a layer by least squares, where the step says so and the fit holds on held-out samples.

    Args:
        output: The layer, with the columns that stay.
        step: The step.
        before: Number of units or heads before.
        kept: Numbers of those that stay.
        regressions: Regressions of the layer's outputs before.

    Returns:
        The relative errors of the outputs before and after the refit.
    """
    fitted, held_out, stored = regressions
    judge = fitted if held_out is None else held_out
    plain, has_bias = output.weight.detach().clone(), output.bias is not None
    error_before_fit = judge.error(plain)
    fit_error, error = fitted.error(plain), error_before_fit
    damp = _best_damp(fitted, judge, plain, has_bias, step.damp) if step.refit else None
    if damp is not None:
        weight, shift = fitted.fit(plain, damp, has_bias)
        fit_error, error = fitted.error(weight, shift), judge.error(weight, shift)
        set_weight_(output, *stored.fit_with_drift(plain, damp, has_bias))
    return LayerErrors(
        before=before,
        kept=tuple(kept),
        rows=fitted.rows,
        error_before_fit=error_before_fit,
        error=error,
        fit_error=fit_error if step.refit and held_out is not None else None,
    )


def _best_damp(fitted: Regression, judge: Regression, weight: Tensor, has_bias: bool, least: float) -> float | None:
    """Return the damping of the fit that errs least on held-out samples; ``None`` if it errs less without a fit."""
    errors = {factor * least: judge.error(*fitted.fit(weight, factor * least, has_bias)) for factor in _DAMPS}
    best = min(errors, key=errors.__getitem__)
    return best if errors[best] < judge.error(weight) else None


def check_rows(layer: str, rows: int, inputs: int, samples: int, what: str) -> str | None:
    """Check that there are enough rows for a fit, and return a note if there are few.

    With fewer rows than inputs the least squares have many solutions, of which the damping takes the one nearest to the
    weights before; with a quarter, that is hardly a fit.

    Args:
        layer: Name of the layer.
        rows: Rows of its inputs that the samples gave.
        inputs: Number of inputs that stay.
        samples: Number of samples.
        what: Plural name of the inputs.

    Raises:
        SamplesError: No sample reaches the layer, or too few rows do; says how many are needed.
    """
    if not rows:
        raise SamplesError(f"no sample reaches the layer {layer!r}; give samples that do")
    if rows >= inputs:
        return None
    enough = counted(-(-samples * inputs // rows), "sample")
    advice = f"give at least {counted(inputs, 'row')}, which is about {enough} like these"
    if rows < _LEAST_ROWS * inputs:
        raise SamplesError(
            f"{layer}: {counted(rows, 'row')} of calibration data, too few to fit "
            f"{inputs} {what} by least squares; {advice}"
        )
    are = counted(rows, "row of calibration data is", "rows of calibration data are")
    return f"{layer}: {are} few to fit {inputs} {what}; {advice}"


def notes_on_fits(step: PruneHeads | PruneWidth, layers: Mapping[str, LayerErrors]) -> Iterator[str]:
    """Yield a note on the layers that a refit would have harmed, if there are any."""
    unfitted = [
        name for name, layer in layers.items() if layer.error is not None and layer.error == layer.error_before_fit
    ]
    if step.refit and unfitted:
        yield (
            f"{counted(len(unfitted), 'layer')} such as {unfitted[0]!r} "
            f"{'keeps its' if len(unfitted) == 1 else 'keep their'} "
            "weights as they were: a fit would have raised the error on held-out samples"
        )
