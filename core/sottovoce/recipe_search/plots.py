"""Pictures of a search: divergence by layer and choice, and size against divergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sottovoce.calibration.reference import ALL
from sottovoce.errors import OutputError, SottovoceError
from sottovoce.recipe_search.choices import CHOICES, FLOAT
from sottovoce.recipe_search.result import SearchResult
from sottovoce.recipe_search.structures import WHOLE

_LEAST = 1e-10
"""Divergence below which differences are of rounding in float."""


def heat_map(result: SearchResult, path: Path) -> None:
    """Draw the divergence of every choice for every layer as a PNG file, or for every part where nothing is rounded.

    A frame marks what was chosen.

    Raises:
        OutputError: The file system refused.
        SottovoceError: matplotlib is not installed.
    """
    units = [unit for unit, row in result.sensitivity.items() if FLOAT.name in row]
    columns = [choice.name for choice in CHOICES if choice is not FLOAT]
    columns = [name for name in columns if any(name in result.sensitivity[unit] for unit in units)]
    if not columns:  # Nothing is rounded: the choices are those of the pruned parts.
        units = [unit for unit in result.sensitivity if unit not in units]
        columns = list(dict.fromkeys(name for unit in units for name in result.sensitivity[unit] if name != WHOLE))
    values = [[_value(result, unit, name) for name in columns] for unit in units]
    figure = _figure(2.5 + 0.7 * len(columns) + 0.055 * max(map(len, units)), 1.6 + 0.19 * len(units))
    panel = figure.subplots()
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    known = [value for row in values for value in row if value == value]
    norm = LogNorm(max(min(known), _LEAST), max(*known, 10 * _LEAST))
    image = panel.imshow(values, aspect="auto", cmap="viridis_r", norm=norm)
    for row, unit in enumerate(units):
        if result.choices.get(unit) in columns:
            column = columns.index(result.choices[unit])
            panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=1.2))
    panel.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=7)
    panel.set_yticks(range(len(units)), units, fontsize=6)
    figure.colorbar(image, label="divergence in nats per token, of this choice alone", shrink=min(1.0, 8 / len(units)))
    _save(figure, path)


def front(result: SearchResult, path: Path) -> None:
    """Draw size against divergence as a PNG file: the best mixes, uniform recipes, and the recipe itself.

    Raises:
        OutputError: The file system refused.
        SottovoceError: matplotlib is not installed.
    """
    figure = _figure(7.0, 4.5)
    panel = figure.subplots()
    mixes = [(point.size_bytes / 1e6, max(point.divergence, _LEAST)) for point in result.front]
    panel.plot(*zip(*mixes, strict=True), "o-", markersize=3, label="best mixes")
    for point in result.uniform:
        place = point.size_bytes / 1e6, max(point.divergence, _LEAST)
        panel.plot(*place, "s", color="gray", markersize=4)
        panel.annotate(point.name, place, fontsize=7, xytext=(3, 3), textcoords="offset points")
    panel.plot(result.size_bytes["after"] / 1e6, max(result.predicted, _LEAST), "r*", markersize=11, label="the recipe")
    panel.set_yscale("log")
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("{x:g}")
    panel.tick_params(which="both", labelsize=7)
    panel.set_xlabel("MB on disk")
    panel.set_ylabel("sum of divergences, nats per token")
    panel.legend(fontsize=8)
    _save(figure, path)


def _value(result: SearchResult, unit: str, choice: str) -> float:
    entry = result.sensitivity[unit].get(choice)
    return float("nan") if entry is None else max(float(entry["nats"][ALL]), _LEAST)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise SottovoceError("plots need matplotlib; pip install 'sottovoce[search]'") from None
    figure = Figure(figsize=(width, min(height, 60.0)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error})") from error
