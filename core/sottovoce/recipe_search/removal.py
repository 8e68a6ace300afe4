"""Names of layers once others before them are removed: a list of layers is numbered anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from sottovoce.recipe_search.units import Layer, Unit


def renumbered(name: str, removed: Collection[str]) -> str:
    """Return the name that a module has once layers are removed, such as ``encoder.layers.3``.

    Args:
        name: Name of a module, within a layer or not, that stays.
        removed: Names of the layers, of one list or of several.
    """
    for container in {layer.rpartition(".")[0] for layer in removed}:
        number, dot, rest = name.removeprefix(f"{container}.").partition(".")
        if name.startswith(f"{container}.") and number.isdecimal():
            before = sum(f"{container}.{other}" in removed for other in range(int(number)))
            return f"{container}.{int(number) - before}{dot}{rest}"
    return name


def renumbered_units(
    units: Iterable[Unit], layers: Mapping[str, Layer], removed: Collection[str]
) -> tuple[list[Unit], dict[str, Layer]]:
    """Return the units that stay, and their layers, by the names that they have once layers are removed."""
    staying = [unit for unit in units if any(name in layers for name in unit.layers)]
    names = {name: renumbered(name, removed) for name in layers}
    return (
        [
            replace(
                unit,
                name=renumbered(unit.name, removed),
                layers=tuple(names[name] for name in unit.layers if name in names),
            )
            for unit in staying
        ],
        {names[name]: replace(layer, name=names[name]) for name, layer in layers.items()},
    )
