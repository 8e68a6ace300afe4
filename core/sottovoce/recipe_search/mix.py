"""The integer program of a search: units and their choices, parts and their states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from sottovoce.calibration.reference import ALL
from sottovoce.recipe_search.choices import CHOICES, Choice, choice_of
from sottovoce.recipe_search.solver import Option, Problem
from sottovoce.recipe_search.storage import fixed_bytes, layer_bytes
from sottovoce.recipe_search.structures import REMOVED

if TYPE_CHECKING:
    import torch

    from sottovoce.model import Model
    from sottovoce.recipe.scheme import Strategy
    from sottovoce.recipe_search.latency import Latencies
    from sottovoce.recipe_search.sensitivity import Divergence
    from sottovoce.recipe_search.structures import State
    from sottovoce.recipe_search.units import Layer, Unit

Table = Mapping[str, Mapping[str, "Divergence"]]
"""Divergences by the names of unit and choice."""
Groups = Mapping[str, Sequence["State"]]
"""States of the parts that may be pruned, by group; the first of each is the whole part."""


@dataclass(frozen=True)
class Space:
    """All that can be chosen for a model."""

    units: Sequence[Unit]
    layers: Mapping[str, Layer]
    groups: Groups
    fixed_bytes: int
    dtype: torch.dtype
    strategy: Strategy
    narrow: torch.dtype | None = None
    """Dtype in which the recipe stores 32-bit floats."""
    latencies: Latencies | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        units: Sequence[Unit],
        layers: Mapping[str, Layer],
        groups: Groups,
        narrow: torch.dtype | None = None,
    ) -> Space:
        """Return the space of a float model."""
        dtype = next(parameter.dtype for parameter in model.module.parameters() if parameter.is_floating_point())
        strategy = model.architecture.layers.activation_strategy
        return cls(units, layers, groups, fixed_bytes(model, layers, narrow), dtype, strategy, narrow)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Choices that the search may take, from the one that changes a layer least."""
        allowed = {choice for unit in self.units for choice in unit.allowed}
        return tuple(choice for choice in CHOICES if choice in allowed)

    def problem(self, table: Table | None, kind: str = ALL) -> Problem:
        """Return the integer program.

        Args:
            table: Divergences, which are minimized; ``None`` to ask for sizes alone.
            kind: Kind of samples whose divergence counts.
        """
        groups = {unit.name: list(self._options(unit, table, kind)) for unit in self.units}
        for name, states in self.groups.items():
            groups[name] = [
                Option(
                    state.name,
                    state.divergence.nats.get(kind, 0.0),
                    state.fixed_bytes - self.fixed_bytes,
                    -self.latencies.others[state.part] if self.latencies and state.name == REMOVED else 0.0,
                )
                for state in states
            ]
        seconds = self.latencies.fixed_seconds if self.latencies else 0.0
        return Problem(groups, self.fixed_bytes, seconds)

    def _options(self, unit: Unit, table: Table | None, kind: str) -> Iterator[Option]:
        affecting = [name for name, states in self.groups.items() if self._affects(states, unit)]
        for states in product(*(self.groups[name] for name in affecting)):
            layers = self.layers_after(unit, states)
            needs = {state.group: state.name for state in states}
            for choice in unit.choices(layers) if layers else ():
                if table is not None and choice.name not in table[unit.name]:
                    continue
                nats = table[unit.name][choice.name].nats.get(kind, 0.0) if table is not None else 0.0
                yield Option(choice.name, nats, self._bytes(layers, choice), self._seconds(layers, choice), needs)
            if not layers:
                yield Option(REMOVED, 0.0, 0, 0.0, needs)

    def shapes(self) -> Iterator[tuple[Layer, Choice]]:
        """Yield every layer, as it is and as it would be pruned, with the choices that it may get."""
        for unit in self.units:
            affecting = [states for states in self.groups.values() if self._affects(states, unit)]
            for states in product(*affecting):
                layers = self.layers_after(unit, states)
                for choice in unit.choices(layers) if layers else ():
                    yield from ((layer, choice) for layer in layers.values())

    def _affects(self, states: Sequence[State], unit: Unit) -> bool:
        return any(state.layers.get(name) != self.layers[name] for state in states for name in unit.layers)

    def layers_after(self, unit: Unit, states: Sequence[State]) -> dict[str, Layer]:
        """Return the sizes of a unit's layers once parts are pruned, without those that are removed."""
        layers: dict[str, Layer] = {}
        for name in unit.layers:
            sizes = [state.layers.get(name) for state in states]
            present = [layer for layer in sizes if layer is not None]
            if len(present) == len(sizes):
                outputs = min((layer.outputs for layer in present), default=self.layers[name].outputs)
                inputs = min((layer.inputs for layer in present), default=self.layers[name].inputs)
                layers[name] = replace(self.layers[name], outputs=outputs, inputs=inputs)
        return layers

    def _bytes(self, layers: Mapping[str, Layer], choice: Choice) -> int:
        return sum(
            layer_bytes(layer, choice.scheme(layer.width, self.strategy, layer.is_weight_only), self.dtype, self.narrow)
            for layer in layers.values()
        )

    def _seconds(self, layers: Mapping[str, Layer], choice: Choice) -> float:
        if self.latencies is None:
            return 0.0
        return sum(self.latencies.seconds(layer, choice) for layer in layers.values())


@dataclass(frozen=True)
class Mix:
    """A solution: a choice for every unit, a state for every part."""

    choices: Mapping[str, Choice]
    """Choice by unit's name; a unit that is removed has none."""
    states: Mapping[str, State]
    """State by group."""
    layers: Mapping[str, Layer]
    """Sizes of the layers that are quantized, once parts are pruned."""
    divergence: float
    """Sum of the divergences of all that was chosen."""
    size_bytes: int
    seconds: float
    numbers: Mapping[str, int]
    """By unit or group, the number of its option."""

    @classmethod
    def of(cls, space: Space, problem: Problem, numbers: Mapping[str, int]) -> Mix:
        """Read a solution of a space's problem."""
        states = {name: group[numbers[name]] for name, group in space.groups.items()}
        names = {unit.name: problem.groups[unit.name][numbers[unit.name]].name for unit in space.units}
        layers: dict[str, Layer] = {}
        for unit in space.units:
            layers |= space.layers_after(unit, list(states.values()))
        return cls(
            choices={unit: choice_of(name) for unit, name in names.items() if name != REMOVED},
            states=states,
            layers=layers,
            divergence=problem.cost(numbers),
            size_bytes=problem.size_bytes(numbers),
            seconds=problem.seconds(numbers),
            numbers=numbers,
        )

    @property
    def names(self) -> dict[str, str]:
        """Choices and states by name, for tables."""
        return {unit: choice.name for unit, choice in self.choices.items()} | {
            group: state.name for group, state in self.states.items()
        }
