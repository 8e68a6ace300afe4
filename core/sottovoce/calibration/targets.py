"""Selection of the modules that a step changes, and the reasons for those that it keeps."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sottovoce.architecture import Architecture
from sottovoce.errors import CoverageError
from sottovoce.recipe.pattern import matches
from sottovoce.report import Coverage, Kept, Target

if TYPE_CHECKING:
    from torch import nn

BIAS_REASON = "a bias is added in float"
OTHER_REASON = "not among the targets"
LEFT_OUT = "left out by the recipe"


@dataclass(frozen=True)
class Selection:
    """Layers to change, and everything else."""

    layers: Mapping[str, nn.Linear | nn.Embedding]
    """Layers to change, by name."""
    kept: tuple[Kept, ...]
    """Modules that stay, with the reason."""
    coverage: Coverage
    """Share of the parameters that changes."""
    parameters: Mapping[str, int]
    """Elements of every parameter of the model, by name."""
    sizes: Mapping[str, int]
    """Elements of the weights of the layers, by the layers' names."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """Layers to change, with the number of elements."""
        return tuple(Target(name=name, parameters=size) for name, size in self.sizes.items())

    def without_layers(self) -> Selection:
        """Return the selection without its modules, which would keep replaced weights in memory."""
        return replace(self, layers={})

    def reduced(self, module: nn.Module, changed: Container[str], architecture: Architecture) -> Selection:
        """Return the selection after work in which modules were removed, or lost rows.

        Args:
            module: The model now.
            changed: Names of the layers that were changed.
            architecture: The model's family, for the names of the parts.
        """
        now = {name for name, _ in module.named_modules()}
        sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
        counts: dict[str, int] = {}
        for name, count in sizes.items():
            owner = name.rpartition(".")[0]
            counts[owner] = counts.get(owner, 0) + count
        layers = {name: _current_size(module, name, size) for name, size in self.sizes.items() if name in changed}
        weights = {f"{name}.weight" for name in self.sizes}
        parameters = {
            name: layers.get(name.removesuffix(".weight"), count) if name in weights else sizes.get(name, count)
            for name, count in self.parameters.items()
            if name.rpartition(".")[0] in now
        }
        kept = []
        for entry in self.kept:
            if entry.name in now:
                kept.append(replace(entry, parameters=counts.get(entry.name, entry.parameters)))
            elif entry.reason == BIAS_REASON:
                kept.append(entry)
        targets = tuple(Target(name=name, parameters=size) for name, size in layers.items())
        coverage = Coverage.of(architecture.part_of, parameters, targets)
        return Selection({}, tuple(kept), coverage, parameters, layers)


def select_layers(
    module: nn.Module,
    architecture: Architecture,
    targets: Iterable[str] | None = None,
    ignore: Iterable[str] = (),
    embeddings: str | None = None,
) -> Selection:
    """Select the linear layers and embedding tables that ``targets`` match.

    Args:
        module: The model.
        architecture: The model's family, with its default targets, its kept layers and its parts.
        targets: Patterns in place of the architecture's.
        ignore: More patterns of layers to keep.
        embeddings: ``int8`` adds every embedding table, also one that the architecture keeps; ``keep`` keeps all.

    Raises:
        CoverageError: A pattern of the targets matches nothing, or a target is neither a linear layer nor a table.
    """
    layers, reasons = _match_layers(module, architecture, targets, ignore, embeddings)
    for name, other in _shared_weights(module, layers).items():
        del layers[name]
        reasons[name] = f"its weight is that of {other!r} too"
    parameters = {name: parameter.numel() for name, parameter in module.named_parameters()}
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    selected = tuple(Target(name=name, parameters=size) for name, size in sizes.items())
    coverage = Coverage.of(architecture.part_of, parameters, selected)
    return Selection(layers, _kept(module, layers, reasons), coverage, parameters, sizes)


def _current_size(module: nn.Module, name: str, before: int) -> int:
    """Return the elements of a layer's weight, quantized or not, which may have lost rows or columns."""
    layer = module.get_submodule(name)
    inputs, outputs = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    return inputs * outputs if isinstance(inputs, int) and isinstance(outputs, int) else before


def _match_layers(
    module: nn.Module,
    architecture: Architecture,
    targets: Iterable[str] | None,
    ignore: Iterable[str],
    embeddings: str | None,
) -> tuple[dict[str, nn.Linear | nn.Embedding], dict[str, str]]:
    """Return the layers that match, and the reasons for the modules that are kept, both by name."""
    left_out = {pattern: LEFT_OUT for pattern in ignore}
    ignored = left_out | dict(architecture.layers.ignore)
    patterns = tuple(architecture.layers.targets if targets is None else targets)
    layers: dict[str, nn.Linear | nn.Embedding] = {}
    reasons: dict[str, str] = {}
    used: set[str] = set()
    for name, child in module.named_modules():
        kind = type(child).__name__
        matching = [pattern for pattern in patterns if matches(name, kind, pattern)]
        used.update(matching)
        tables = embeddings if _is_table(child) else None
        kept = left_out if tables == "int8" else ignored | ({name: LEFT_OUT} if tables == "keep" else {})
        if targets is None or not matching:
            kept = kept | dict(architecture.layers.ignore_by_default)
        if reason := next((text for pattern, text in kept.items() if matches(name, kind, pattern)), None):
            reasons[name] = reason
        elif matching or tables == "int8":
            layers[name] = _layer(name, child)
    if unused := [pattern for pattern in patterns if pattern not in used]:
        raise CoverageError(
            f"no module of {architecture.name} matches {', '.join(map(repr, unused))}; see inspect for names"
        )
    return layers, reasons


def _shared_weights(module: nn.Module, layers: Mapping[str, nn.Linear | nn.Embedding]) -> dict[str, str]:
    """Return the layers with a weight that another module has too, by name: quantized, it would be stored twice."""
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
    if "weight" not in dict(module.named_parameters(recurse=False)):
        raise CoverageError(
            f"the target {name!r} computes its weight from other parameters, as weight_norm does: remove that first "
            "(torch.nn.utils.parametrize.remove_parametrizations)"
        )
    return module


def _kept(
    module: nn.Module, layers: Mapping[str, nn.Linear | nn.Embedding], reasons: Mapping[str, str]
) -> tuple[Kept, ...]:
    kept: list[Kept] = []
    biases = 0
    counted: set[int] = set()
    for name, child in module.named_modules():
        parameters = [parameter for parameter in child.parameters(recurse=False) if id(parameter) not in counted]
        counted.update(map(id, parameters))
        count = sum(parameter.numel() for parameter in parameters)
        if name in layers:
            biases += count - layers[name].weight.numel()
        elif count:
            kept.append(Kept(name=name, parameters=count, reason=_reason(name, type(child).__name__, reasons)))
    if biases:
        kept.append(Kept(name="*.bias", parameters=biases, reason=BIAS_REASON))
    return tuple(kept)


def _reason(name: str, kind: str, reasons: Mapping[str, str]) -> str:
    while name:
        if name in reasons:
            return reasons[name]
        name = name.rpartition(".")[0]
    return OTHER_REASON if kind == "Linear" else f"{OTHER_REASON}: {kind}"
