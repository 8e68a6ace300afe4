"""The fit of the layers that absorb others and of those that follow, once it is known which layers go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.calibration.blocks import Block, room_for_activations, run_blocks
from sottovoce.errors import SamplesError
from sottovoce.pruning.absorb import AbsorptionSums, Projection
from sottovoce.pruning.description import LayerErrors
from sottovoce.pruning.layer_choice import SampleSplit
from sottovoce.pruning.layer_states import StateHooks, record_states, without_layers
from sottovoce.pruning.parts import float_linear
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.pruning.layer_plan import LayerFit

Targets = Mapping[str, Mapping[str, Tensor]]
"""By the key of a sample and the name of a layer, the hidden states that left it in the model before."""


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
class _Result:
    plain: Projection
    merged: Projection
    """Fitted on all samples: what is stored."""
    rows: int
    before: float
    on_fit: _StateErrors = field(default_factory=_StateErrors)
    on_held_out: _StateErrors = field(default_factory=_StateErrors)


class Absorption:
    """Fits of layers in the order in which they run: later ones see what earlier ones became."""

    def __init__(self, model: Model, fits: Sequence[LayerFit], split: SampleSplit, damp: float) -> None:
        self._model, self._split, self._damp = model, split, damp
        self._fits = {fit.layer: fit for fit in fits}
        self._held_out = {sample.key for sample in split.held_out}
        self._samples = [*split.fitted, *split.held_out]
        self._results: dict[str, _Result] = {}
        self._targets: Targets = {}
        self.notes: list[str] = []

    def fit_(self, removed: Sequence[str], memory_bytes: int | None) -> dict[str, LayerErrors]:
        """Fit the layers in place; return the errors of the hidden states by the name of the layer.

        Args:
            removed: Names of the layers that go.
            memory_bytes: Bytes that the process may take.

        Raises:
            SamplesError: No sample reaches a layer.
            MemoryLimitError: The work does not fit the limit.
        """
        last = [fit.target for fit in self._fits.values()]
        self._targets = {sample.key: record_states(self._model, sample, (), last).left for sample in self._samples}
        cache = ActivationCache(room_for_activations(self._model, list(self._fits), memory_bytes))
        with without_layers(self._model.module, removed):
            unreached = run_blocks(
                self._model, self._samples, list(self._fits), self._fit_layer_, cache=cache
            ).unreached
            if unreached:
                raise SamplesError(f"no sample reaches the layer {unreached[0]!r}; give samples that do")
            self._measure()
        return {name: self._keep_(name, result) for name, result in self._results.items()}

    def _fit_layer_(self, block: Block) -> None:
        """Fit one layer on the samples that are not held out."""
        fit = self._fits[block.name]
        layer = float_linear(block.root, fit.output)
        sums = {is_held_out: AbsorptionSums(layer) for is_held_out in (False, True)}
        with StateHooks(block.root, [fit.output], [fit.layer]) as hooks:
            for thread, _ in zip(block.sample_threads, block.run(), strict=True):
                states = hooks.take()
                target = self._targets[thread.sample.key].get(fit.target)
                state = states.left[fit.layer]
                # Once earlier layers have changed, a sample may have another number of tokens.
                if target is not None and target.shape == state.shape:
                    sums[thread.sample.key in self._held_out].add(states.entered[fit.output], state, target)
        fitted, held_out = sums[False], sums[True]
        if not fitted.rows:
            raise SamplesError(f"no sample of the fit reaches the layer {fit.layer!r}; give samples that do")
        plain, regression = Projection.of(layer), fitted.regression()
        everything = regression.merged(held_out.regression()) if held_out.rows else regression
        self._results[fit.layer] = _Result(
            plain,
            plain.fitted(everything, self._damp),
            fitted.rows,
            held_out.error_before if held_out.rows else fitted.error_before,
        )
        plain.fitted(regression, self._damp).set_(layer)
        self._note_few(fit, fitted.rows, layer.in_features)

    def _measure(self) -> None:
        """Measure what all fits together did to the hidden states: a projection may not be the last of its layer."""
        for sample in self._samples:
            states = record_states(self._model, sample, (), list(self._fits)).left
            for name, result in self._results.items():
                target, state = self._targets[sample.key].get(self._fits[name].target), states.get(name)
                if target is not None and state is not None and target.shape == state.shape:
                    errors = result.on_held_out if sample.key in self._held_out else result.on_fit
                    errors.add(state, target)

    def _keep_(self, name: str, result: _Result) -> LayerErrors:
        """Give a layer the weights that were fitted on all samples, or its own if those are better."""
        error = result.on_held_out.share if result.on_held_out.power else result.on_fit.share
        is_better = error < result.before
        (result.merged if is_better else result.plain).set_(float_linear(self._model.module, self._fits[name].output))
        if not is_better:
            self.notes.append(f"{name}: stays as it was, since the fit would not bring the hidden states nearer")
        return LayerErrors(
            before=self._fits[name].count,
            kept=(0,),
            rows=result.rows,
            error_before_fit=result.before,
            error=error if is_better else result.before,
            fit_error=result.on_fit.share if is_better and result.on_held_out.power else None,
        )

    def _note_few(self, fit: LayerFit, rows: int, inputs: int) -> None:
        if rows < inputs:
            needed = -(-len(self._split.fitted) * inputs // rows)
            self.notes.append(
                f"{fit.output}: fitted on {counted(rows, 'row')} for {counted(inputs, 'input')}; about "
                f"{counted(needed, 'sample')} like these would be as many rows"
            )
