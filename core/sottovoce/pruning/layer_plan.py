"""Layers that a recipe removes, or that it may: those of every part, without those that a family fixes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.calibration.held_out import evenly
from sottovoce.errors import RecipeError
from sottovoce.pruning.parts import float_linear, kept_number, parts_to_prune
from sottovoce.recipe.pattern import matches
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture, Depth
    from sottovoce.model import Model
    from sottovoce.pruning.step import PruneLayers


@dataclass(frozen=True)
class LayerPart:
    """The layers of one part of a model, and the plan to remove some."""

    depth: Depth
    layers: tuple[str, ...]
    """Names of the layers that are a list in the model, in order."""
    fixed: Mapping[str, str]
    """By name of a layer that stays, the reason."""
    named: tuple[str, ...] | None
    """Names of the layers to remove; ``None`` if they are to be chosen."""
    remove: int
    """Number of layers to remove."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of all layers in the order in which they run."""
        return self.layers if self.depth.before is None else (self.depth.before, *self.layers)

    @property
    def removable(self) -> tuple[str, ...]:
        """Names of the layers that may be removed."""
        return tuple(name for name in self.layers if name not in self.fixed)

    def previous(self, name: str, removed: Collection[str]) -> str | None:
        """Return the last layer before one that is not removed; ``None`` if there is none."""
        before = [other for other in self.chain[: self.chain.index(name)] if other not in removed]
        return before[-1] if before else None

    def fits(self, removed: Collection[str]) -> list[LayerFit]:
        """Return what is fitted once some layers are removed, in the order in which the layers run."""
        fits: list[LayerFit] = []
        following = 0
        for name in self.chain:
            if name in removed:
                following = FOLLOWING
                before = self.previous(name, removed)
                if before is not None and fits and fits[-1].layer == before:
                    fits[-1] = LayerFit(before, name, fits[-1].output, fits[-1].count + 1)
                elif before is not None:
                    fits.append(LayerFit(before, name, f"{before}.{self.depth.output}", 2))
            elif following:
                following -= 1
                fits.append(LayerFit(name, name, f"{name}.{self.depth.output}", 1))
        return fits


FOLLOWING = 4
"""Layers after a removed one that are fitted to the hidden states that left them: each takes away some of the error."""


@dataclass(frozen=True)
class LayerFit:
    """A layer whose output projection is fitted."""

    layer: str
    target: str
    """Name of the layer whose hidden states it should give: the last removed one after it, or itself."""
    output: str
    """Name of the output projection."""
    count: int
    """Number of layers that it stands for."""


def plan_parts(model: Model, architecture: Architecture, step: PruneLayers) -> list[LayerPart]:
    """Return the parts that lose layers.

    Raises:
        RecipeError: The family has no such part, no layer of a name, one that stays for a reason, or too few that may
            be removed; or none would be removed.
        CoverageError: A layer is quantized already.
        PluginError: The family's shape does not fit the model.
    """
    if step.layers is None:
        amounts = parts_to_prune(architecture.shape.depths, step, step.name, architecture.name)
        parts = [_by_amount(model, step, depth, amount) for depth, amount in amounts if _layer_names(model, depth)]
        if absent := [
            depth.part for depth, _ in amounts if depth.part in step.parts and not _layer_names(model, depth)
        ]:
            raise RecipeError(f"{step.name}: this model has no {absent[0]!r}; leave it out")
    else:
        parts = _by_name(model, architecture, step)
    parts = [part for part in parts if part.remove]
    if not parts:
        raise RecipeError(f"{step.name}: all layers would stay; keep fewer, or leave the step out")
    for part in parts:
        for name in part.chain:
            float_linear(model.module, f"{name}.{part.depth.output}")
    return parts


def removable_layers(model: Model, depth: Depth) -> tuple[str, ...]:
    """Return the layers of a part that may be removed, each alone and all together, and be absorbed."""
    layers = _layer_names(model, depth)
    part = LayerPart(depth, layers, _fixed(model, depth, layers), (), 0)
    return tuple(name for name in part.removable if name != part.chain[0])


def _layer_names(model: Model, depth: Depth) -> tuple[str, ...]:
    try:
        layers = model.module.get_submodule(depth.layers)
    except AttributeError:
        return ()
    return tuple(f"{depth.layers}.{name}" for name, _ in layers.named_children())


def _fixed(model: Model, depth: Depth, layers: Sequence[str]) -> dict[str, str]:
    keep = depth.keep(model) if callable(depth.keep) else depth.keep
    fixed = {layers[number]: reason for number, reason in keep.items() if -len(layers) <= number < len(layers)}
    return fixed if depth.before is None else {depth.before: "it runs before the first of them", **fixed}


def _by_amount(model: Model, step: PruneLayers, depth: Depth, amount: int | float) -> LayerPart:
    layers = _layer_names(model, depth)
    fixed = _fixed(model, depth, layers)
    part = LayerPart(depth, layers, fixed, None, 0)
    count = len(part.chain)
    remove = count - kept_number(amount, count, f"{step.name}, {depth.part}")
    if step.absorb and part.chain[0] not in fixed:
        fixed[part.chain[0]] = "no layer before it could absorb it"
    if remove > len(part.removable):
        kept = "; ".join(f"{name}: {reason}" for name, reason in fixed.items())
        raise RecipeError(
            f"{step.name}, {depth.part}: {remove} of {counted(count, 'layer')} would go, and only "
            f"{len(part.removable)} may ({kept}); keep at least {count - len(part.removable)}"
        )
    named = tuple(evenly(part.removable, remove)) if step.choice == "even" else None
    return LayerPart(depth, layers, fixed, named, remove)


def _by_name(model: Model, architecture: Architecture, step: PruneLayers) -> list[LayerPart]:
    if not architecture.shape.depths:
        raise RecipeError(f"{step.name}: {architecture.name} states no layers that may be removed; leave the step out")
    depths = [(depth, _layer_names(model, depth)) for depth in architecture.shape.depths]
    parts = [LayerPart(depth, layers, _fixed(model, depth, layers), (), 0) for depth, layers in depths if layers]
    named: set[str] = set()
    for pattern in step.layers or ():
        matched = {
            name
            for part in parts
            for name in part.chain
            if matches(name, type(model.module.get_submodule(name)).__name__, pattern)
        }
        if not matched:
            known = ", ".join(f"{part.layers[0]} to {part.layers[-1].rpartition('.')[2]}" for part in parts)
            raise RecipeError(f"{step.name}: {pattern!r} names no layer of this model; there are {known}")
        named |= matched
    chosen = [LayerPart(part.depth, part.layers, part.fixed, _named(part, named), 0) for part in parts]
    for part in chosen:
        _check_named(part, named, step)
    return [LayerPart(part.depth, part.layers, part.fixed, part.named, len(part.named or ())) for part in chosen]


def _named(part: LayerPart, named: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in part.layers if name in named)


def _check_named(part: LayerPart, named: Collection[str], step: PruneLayers) -> None:
    if set(part.chain) <= set(named):
        raise RecipeError(f"{step.name}, {part.depth.part}: all layers ({len(part.chain)}) would go; keep at least one")
    for name, reason in part.fixed.items():
        if name in named:
            raise RecipeError(f"{step.name}: {name!r} is never removed: {reason}; leave it out")
    for name in part.named or ():
        if step.absorb and part.previous(name, named) is None:
            raise RecipeError(
                f"{step.name}: no layer before {name!r} could absorb it; keep it, or remove it with absorb: false"
            )
