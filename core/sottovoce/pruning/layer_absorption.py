"""The fit of the layers that absorb others, once it is known which layers go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from sottovoce.errors import SamplesError
from sottovoce.pruning.absorb import AbsorptionSums, Projection
from sottovoce.pruning.description import LayerErrors
from sottovoce.pruning.layer_choice import SampleSplit
from sottovoce.pruning.layer_plan import LayerRun
from sottovoce.pruning.layer_states import record_states, without_layers
from sottovoce.pruning.parts import float_linear

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model

Targets = Mapping[str, Mapping[str, Tensor]]
"""By the key of a sample and the name of a run's last layer, the hidden states that left it."""


@dataclass
class _StateErrors:
    """Squared distances of hidden states from those that should be."""

    change: float = 0.0
    power: float = 0.0

    def add(self, state: Tensor, target: Tensor) -> None:
        self.change += float((target - state).double().square().sum())
        self.power += float(target.double().square().sum())

    @property
    def share(self) -> float:
        return self.change / self.power if self.power else 0.0


@dataclass
class _Fit:
    run: LayerRun
    layer: nn.Linear
    plain: Projection
    merged: Projection
    """Fitted on all samples: what is stored."""
    rows: int
    before: float
    fit_error: _StateErrors = field(default_factory=_StateErrors)
    held_out_error: _StateErrors = field(default_factory=_StateErrors)


class Absorption:
    """Fits of the layers before removed ones, from the first to the last: later ones see what earlier ones became."""

    def __init__(self, model: Model, runs: Sequence[LayerRun], split: SampleSplit, damp: float) -> None:
        self._model, self._runs, self._split, self._damp = model, runs, split, damp
        self.notes: list[str] = []

    def fit_(self) -> dict[str, LayerErrors]:
        """Fit the layers in place; return the errors of the hidden states by the name of the layer.

        Raises:
            SamplesError: No sample reaches a layer.
        """
        last = [run.layers[-1] for run in self._runs]
        samples = [*self._split.fitted, *self._split.held_out]
        targets = {sample.key: record_states(self._model, sample, (), last).left for sample in samples}
        with without_layers(self._model.module, [name for run in self._runs for name in run.layers]):
            fits = [self._fit_run_(run, targets) for run in self._runs]
            self._measure(fits, targets)
        return {str(fit.run.into): self._keep_(fit) for fit in fits}

    def _fit_run_(self, run: LayerRun, targets: Targets) -> _Fit:
        """Fit one layer on the samples that are not held out."""
        layer = float_linear(self._model.module, run.output)
        fitted, held_out = AbsorptionSums(layer), AbsorptionSums(layer)
        for sums, samples in ((fitted, self._split.fitted), (held_out, self._split.held_out)):
            for sample in samples:
                states = record_states(self._model, sample, {run.output, run.layers[0]}, ())
                target = targets[sample.key].get(run.layers[-1])
                state = states.entered.get(run.layers[0])
                # Once earlier layers have changed, a sample may have another number of tokens.
                if target is not None and state is not None and target.shape == state.shape:
                    sums.add(states.entered[run.output], state, target)
        if not fitted.rows:
            raise SamplesError(f"no sample reaches the layer {run.layers[0]!r}; give samples that do")
        plain = Projection.of(layer)
        regression = fitted.regression()
        everything = regression.merged(held_out.regression()) if held_out.rows else regression
        fit = _Fit(
            run,
            layer,
            plain,
            plain.fitted(everything, self._damp),
            fitted.rows,
            held_out.error_before if held_out.rows else fitted.error_before,
        )
        plain.fitted(regression, self._damp).set_(layer)
        self._note_few(run, layer, fitted.rows)
        return fit

    def _measure(self, fits: Sequence[_Fit], targets: Targets) -> None:
        """Measure what all fits together did to the hidden states: a projection may not be the last of its layer."""
        for samples, of in ((self._split.fitted, "fit_error"), (self._split.held_out, "held_out_error")):
            for sample in samples:
                states = record_states(self._model, sample, [fit.run.layers[0] for fit in fits], ())
                for fit in fits:
                    target, state = targets[sample.key].get(fit.run.layers[-1]), states.entered.get(fit.run.layers[0])
                    if target is not None and state is not None and target.shape == state.shape:
                        getattr(fit, of).add(state, target)

    def _keep_(self, fit: _Fit) -> LayerErrors:
        """Give a layer the weights that were fitted on all samples, or its own if those are better."""
        error = fit.held_out_error.share if fit.held_out_error.power else fit.fit_error.share
        is_better = error < fit.before
        (fit.merged if is_better else fit.plain).set_(fit.layer)
        if not is_better:
            self.notes.append(
                f"{fit.run.into}: absorbs nothing, since the fit would not bring the hidden states nearer"
            )
        return LayerErrors(
            before=len(fit.run.layers) + 1,
            kept=(0,),
            rows=fit.rows,
            error_before_fit=fit.before,
            error=error if is_better else fit.before,
            fit_error=fit.fit_error.share if is_better and fit.held_out_error.power else None,
        )

    def _note_few(self, run: LayerRun, layer: nn.Linear, rows: int) -> None:
        if rows < layer.in_features:
            needed = -(-len(self._split.fitted) * layer.in_features // rows)
            self.notes.append(
                f"{run.output}: fitted on {rows} rows for {layer.in_features} inputs; about {needed} "
                "samples like these would be as many rows"
            )
