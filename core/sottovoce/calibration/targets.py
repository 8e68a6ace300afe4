"""Which modules of a model a step is about, which it leaves, and why."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sottovoce.architecture import Architecture, matches
from sottovoce.errors import CoverageError
from sottovoce.report import Coverage, Kept, Target

if TYPE_CHECKING:
    from torch import nn

BIAS_REASON = "a bias is added in float"
OTHER_REASON = "not among the targets"
LEFT_OUT = "left out by the recipe"


@dataclass(frozen=True)
class Selection:
    """The layers to change, by name, and everything else."""

    layers: Mapping[str, nn.Linear | nn.Embedding]
    kept: tuple[Kept, ...]
    coverage: Coverage
    parameters: Mapping[str, int]
    """Elements of every parameter of the model, by name."""
    sizes: Mapping[str, int]
    """Elements of the weights of the layers, by the layers' names."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """The layers with the elements that change."""
        return tuple(Target(name=name, parameters=size) for name, size in self.sizes.items())

    def without_layers(self) -> Selection:
        """The same without the layers, whose weights would otherwise stay in memory when they are replaced."""
        return replace(self, layers={})

    def reduced(self, module: nn.Module, changed: Container[str], architecture: Architecture) -> Selection:
        """The same after work in which modules were removed, or lost rows.

        Args:
            module: The model now.
            changed: Names of the layers that were changed.
            architecture: Gives the parts.
        """
        now = {name for name, _ in module.named_modules()}
        sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
        own: dict[str, int] = {}
        for name, count in sizes.items():
            owner = name.rpartition(".")[0]
            own[owner] = own.get(owner, 0) + count
        chosen = {name: size for name, size in self.sizes.items() if name in changed}
        weights = {f"{name}.weight" for name in self.sizes}
        parameters = {
            name: count if name in weights else sizes.get(name, count)
            for name, count in self.parameters.items()
            if name.rpartition(".")[0] in now
        }
        kept = []
        for each in self.kept:
            if each.name in now:
                kept.append(replace(each, parameters=own.get(each.name, each.parameters)))
            elif each.reason == BIAS_REASON:
                kept.append(each)
        targets = tuple(Target(name=name, parameters=size) for name, size in chosen.items())
        coverage = Coverage.of(architecture.part_of, parameters, targets)
        return Selection({}, tuple(kept), coverage, parameters, chosen)


def select_layers(
    module: nn.Module,
    architecture: Architecture,
    targets: Iterable[str] | None = None,
    ignore: Iterable[str] = (),
    embeddings: str | None = None,
) -> Selection:
    """Choose the linear layers and embedding tables that ``targets`` mean.

    Args:
        module: The model.
        architecture: Gives the default targets, what to leave and the parts.
        targets: Patterns in place of the architecture's.
        ignore: More patterns to leave.
        embeddings: ``int8`` adds every embedding table, also one that the architecture leaves; ``keep`` leaves all.

    Raises:
        CoverageError: A pattern of the targets meets nothing, or a target is neither a linear layer nor a table.
    """
    asked = {pattern: LEFT_OUT for pattern in ignore}
    reasons = asked | dict(architecture.layers.ignore)
    wanted = tuple(architecture.layers.targets if targets is None else targets)
    layers: dict[str, nn.Linear | nn.Embedding] = {}
    why: dict[str, str] = {}
    met: set[str] = set()
    for name, child in module.named_modules():
        kind = type(child).__name__
        hit = [pattern for pattern in wanted if matches(name, kind, pattern)]
        met.update(hit)
        tables = embeddings if _is_table(child) else None
        left = asked if tables == "int8" else reasons | ({name: LEFT_OUT} if tables == "keep" else {})
        if targets is None or not hit:
            left = left | dict(architecture.layers.ignore_by_default)
        if reason := next((text for pattern, text in left.items() if matches(name, kind, pattern)), None):
            why[name] = reason
        elif hit or tables == "int8":
            layers[name] = _layer(name, child)
    if unmet := [pattern for pattern in wanted if pattern not in met]:
        raise CoverageError(
            f"no module of {architecture.name} matches {', '.join(map(repr, unmet))}; see inspect for names"
        )
    for name, other in _sharing(module, layers).items():
        del layers[name]
        why[name] = f"its weight is that of {other!r} too"
    parameters = {name: parameter.numel() for name, parameter in module.named_parameters()}
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    chosen = tuple(Target(name=name, parameters=size) for name, size in sizes.items())
    coverage = Coverage.of(architecture.part_of, parameters, chosen)
    return Selection(layers, _kept(module, layers, why), coverage, parameters, sizes)


def _sharing(module: nn.Module, layers: Mapping[str, nn.Linear | nn.Embedding]) -> dict[str, str]:
    """The layers whose weight another module has too, by name: quantized for one, it would be stored twice."""
    owners: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    shared = {name: owners[id(layer.weight)] for name, layer in layers.items()}
    return {name: next(owner for owner in names if owner != name) for name, names in shared.items() if len(names) > 1}


def _is_table(module: nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.Embedding)


def _layer(name: str, module: nn.Module) -> nn.Linear | nn.Embedding:
    from torch import nn

    if not isinstance(module, nn.Linear | nn.Embedding):
        raise CoverageError(
            f"the target {name!r} is a {type(module).__name__}, not a float linear layer or embedding: "
            "is the model compressed already? if not, name it in ignore"
        )
    return module


def _kept(
    module: nn.Module, layers: Mapping[str, nn.Linear | nn.Embedding], why: Mapping[str, str]
) -> tuple[Kept, ...]:
    kept: list[Kept] = []
    biases = 0
    counted: set[int] = set()
    for name, child in module.named_modules():
        parameters = [parameter for parameter in child.parameters(recurse=False) if id(parameter) not in counted]
        counted.update(map(id, parameters))
        own = sum(parameter.numel() for parameter in parameters)
        if name in layers:
            biases += own - layers[name].weight.numel()
        elif own:
            kept.append(Kept(name=name, parameters=own, reason=_reason(name, type(child).__name__, why)))
    if biases:
        kept.append(Kept(name="*.bias", parameters=biases, reason=BIAS_REASON))
    return tuple(kept)


def _reason(name: str, kind: str, why: Mapping[str, str]) -> str:
    while name:
        if name in why:
            return why[name]
        name = name.rpartition(".")[0]
    return OTHER_REASON if kind == "Linear" else f"{OTHER_REASON}: {kind}"
