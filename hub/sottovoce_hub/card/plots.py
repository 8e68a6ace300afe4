"""Pictures for a card: size and quality, and the error of every layer."""

from __future__ import annotations

import html
import importlib.util
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.report import CompressionReport, Metric, Target
from sottovoce_hub.card.headline import arrow, headline, same_metric
from sottovoce_hub.card.layers import measured_layers
from sottovoce_hub.card.markdown import plain
from sottovoce_hub.card.translations import Translations
from sottovoce_hub.card.variant import Variant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = "card/size-error.png"
LAYERS = "card/layer-error.png"
_LEAST_LAYERS = 3
_MOST_GROUPS = 6
_LONGEST_NAME = 60


@dataclass(frozen=True)
class _Point:
    name: str
    megabytes: float
    value: float
    is_this: bool = False


def draw(report: CompressionReport, name: str, variants: Sequence[Variant]) -> dict[str, bytes]:
    """Return the pictures that there is something to draw for, as PNG, by their names in the repository.

    Without matplotlib there are none.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return {}
    figures = {SIZES: _draw_sizes(report, name, variants), LAYERS: _draw_layers(report)}
    return {path: _png(figure) for path, figure in figures.items() if figure is not None}


def _draw_sizes(report: CompressionReport, name: str, variants: Sequence[Variant]) -> Figure | None:
    first = headline(report)
    if first is None:
        return None
    points = [_Point(name, report.size_bytes.after / 1e6, first.metric.value or 0.0, is_this=True)]
    if first.metric.baseline is not None and report.base_bytes is not None:
        points.append(_Point("base model", report.base_bytes / 1e6, first.metric.baseline))
    for variant in variants:
        other = same_metric(variant.checked, first)
        if other is not None and other.metric.value is not None:
            points.append(_Point(variant.name, variant.checked.size_bytes.after / 1e6, other.metric.value))
    if len(points) < 2:
        return None
    points.sort(key=lambda point: -point.megabytes)
    figure, panels = _panels(8.0, 1.2 + 0.45 * len(points))
    names = [_literal(point.name) for point in points]
    colors = ["tab:red" if point.is_this else "tab:blue" for point in points]
    bars = (
        (panels[0], [point.megabytes for point in points], "size of the weights (MB)"),
        (panels[1], [point.value for point in points], _label(first.metric)),
    )
    for panel, widths, label in bars:
        drawn = panel.barh(names, widths, color=colors, height=0.6)
        panel.bar_label(drawn, [f"{width:.3g}" for width in widths], padding=3, fontsize=9)
        # From zero, so that a small difference looks small.
        panel.set_xlim(0, 1.2 * max(widths) or 1)
        panel.set_xlabel(label)
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    panels[1].set_yticklabels([])
    return figure


def _draw_layers(report: CompressionReport) -> Figure | None:
    targets = measured_layers(report.steps)
    by_output = [target for target in targets if target.output_error is not None]
    shown = by_output or [target for target in targets if target.snr_db is not None]
    if len(shown) < _LEAST_LAYERS:
        return None
    figure, panel = _panel(10.0, 3.6)
    groups = list(dict.fromkeys(_group(target.name) for target in shown))
    for number, group in enumerate(groups):
        places = [place for place, target in enumerate(shown) if _group(target.name) == group]
        heights = [_height(shown[place], bool(by_output)) for place in places]
        label = _literal(group) if len(groups) <= _MOST_GROUPS else None
        panel.plot(places, heights, "o", markersize=3.5, color=f"C{number % 10}", label=label)
    if by_output and any(target.rounded_output_error != target.output_error for target in by_output):
        errors = [target.rounded_output_error for target in by_output]
        rounded = [None if error is None else 100 * error for error in errors]
        panel.plot(range(len(rounded)), rounded, "_", markersize=5, color="0.6", label="rounded to nearest")
    if by_output and all(target.output_error for target in by_output):
        panel.set_yscale("log")
    panel.set_xlabel("layers, in the model's order")
    panel.set_ylabel("output error (%)" if by_output else "signal-to-noise ratio of the weight (dB)")
    panel.grid(alpha=0.3, axis="y")
    if panel.get_legend_handles_labels()[1]:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _height(target: Target, by_output: bool) -> float:
    return 100 * (target.output_error or 0.0) if by_output else (target.snr_db or 0.0)


def _group(name: str) -> str:
    """Return the blocks that a layer is one of: the beginning of its name, up to the first number."""
    return re.split(r"\.\d+(?=\.|$)", name, maxsplit=1)[0]


def _label(metric: Metric) -> str:
    name = html.unescape(Translations("en").metric(metric))
    better = {"↓": "lower is better", "↑": "higher is better"}.get(arrow(metric))
    known = ", ".join(part for part in (plain(metric.unit), better) if part)
    return f"{_literal(name)}\n({_literal(known)})" if known else _literal(name)


def _literal(name: str) -> str:
    """Return a name without what matplotlib would read as mathematics or cannot draw."""
    known = "".join(char if ord(char) < 0x2E80 else "?" for char in plain(name)[:_LONGEST_NAME])
    return known.replace("$", r"\$")


def _panel(width: float, height: float) -> tuple[Figure, Any]:
    figure = _figure(width, height)
    return figure, figure.subplots()


def _panels(width: float, height: float) -> tuple[Figure, Any]:
    figure = _figure(width, height)
    return figure, figure.subplots(1, 2)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    # No name of the program that drew it: the same figures give the same bytes.
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png", metadata={"Software": None})
    return content.getvalue()
