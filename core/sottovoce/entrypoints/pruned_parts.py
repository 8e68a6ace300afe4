"""Parts of a model, each pruned alone: their sizes then, and what that loses."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sottovoce.calibration.calibration import Calibration
from sottovoce.calibration.reference import ALL
from sottovoce.checkpoint.weights import drop_data_
from sottovoce.entrypoints.apply_steps import apply_steps
from sottovoce.errors import SamplesError, UsageError
from sottovoce.pruning.layer_plan import removable_layers
from sottovoce.recipe.recipe import Recipe
from sottovoce.recipe_search.mix import Groups
from sottovoce.recipe_search.sensitivity import Divergence
from sottovoce.recipe_search.storage import fixed_bytes
from sottovoce.recipe_search.structures import STRUCTURES, State, Structure
from sottovoce.recipe_search.trial import KeptTrial
from sottovoce.recipe_search.units import Layer, layers_of, selected
from sottovoce.system.progress import Progress

if TYPE_CHECKING:
    import torch

    from sottovoce.model import Model
    from sottovoce.plugins.host import Host

_NOTHING = Divergence({ALL: 0.0}, is_thorough=True)


@dataclass(frozen=True)
class PrunedParts:
    """The parts that steps may prune, each by several shares."""

    model: Model
    steps: Mapping[str, Sequence[str]]
    """By step, the parts that are named; none if it prunes those of its default."""
    embeddings: str | None
    host: Host
    narrow: torch.dtype | None = None
    """Dtype in which the recipe stores 32-bit floats."""

    def states(self, layers: Mapping[str, Layer]) -> Groups:
        """Return the states of every part with their sizes, from tensors without data; nothing is measured yet.

        Raises:
            UsageError: The family has nothing that a step could prune.
        """
        states = [
            state
            for structure in STRUCTURES.values()
            if structure.step in self.steps
            for part in structure.parts(self.model.architecture, self.steps[structure.step])
            for state in (
                self._by_layer(structure, part, layers) if structure.by_layer else self._by_share(structure, part)
            )
        ]
        whole = fixed_bytes(self.model, layers, self.narrow)
        groups: dict[str, list[State]] = {}
        for state in states:
            first = State(state.step, state.part, None, layers, whole, _NOTHING)
            groups.setdefault(state.group, [first]).append(state)
        return groups

    def measured(self, groups: Groups, trial: KeptTrial, progress: Progress) -> tuple[Groups, list[str]]:
        """Return the states with their divergences.

        Returns:
            The states, and a note for each that the samples are too few for: it is left out.
        """
        pending = [state for states in groups.values() for state in states if state.share is not None]
        measured = {name: [state for state in states if state.share is None] for name, states in groups.items()}
        notes = []
        for number, state in enumerate(pending):
            try:
                nats = trial.run(_alone(state, self.model)).divergence
                measured[state.group].append(replace(state, divergence=Divergence(nats, is_thorough=True)))
            except SamplesError as problem:
                notes.append(f"{state.group}, {state.name}: left out of the search: {problem}")
            progress("pruned parts", number + 1, len(pending))
        return measured, notes

    def _by_share(self, structure: Structure, part: str) -> Iterator[State]:
        for share in structure.shares:
            state = State(structure.step, part, share, {}, 0, _NOTHING)
            model = copy.deepcopy(self.model)
            drop_data_(model.module)
            apply_steps(_alone(state, model), model, Calibration(), self.host)
            layers = layers_of(selected(model, self.embeddings), model.architecture)
            yield replace(state, layers=layers, fixed_bytes=fixed_bytes(model, layers, self.narrow))

    def _by_layer(self, structure: Structure, part: str, layers: Mapping[str, Layer]) -> Iterator[State]:
        depths = [depth for depth in self.model.architecture.shape.depths if depth.part == part]
        names = [name for depth in depths for name in removable_layers(self.model, depth)]
        if not names:
            raise UsageError(f"{self.model.source.name}: no layer of its {part} may be removed: leave the part out")
        for name in names:
            left = {layer: size for layer, size in layers.items() if not layer.startswith(f"{name}.")}
            size = fixed_bytes(self.model, layers, self.narrow, removed=name)
            yield State(structure.step, name, 0.0, left, size, _NOTHING)


def _alone(state: State, model: Model) -> Recipe:
    assert state.share is not None
    form = STRUCTURES[state.step].form(model.architecture, {state.part: state.share})
    return Recipe.from_dict({"steps": [form]}, title=f"search of {state.step}")
