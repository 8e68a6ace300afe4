"""Plots of saliency as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, SottovoceError

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.experts.saliency import Saliency
    from sottovoce.experts.step import SaliencyMetric


def saliency_curves(
    layers: Mapping[str, Saliency],
    kept: Mapping[str, Sequence[int]],
    path: Path,
    metric: SaliencyMetric = "reap",
) -> None:
    """Draw the experts of every layer by falling saliency, for all tokens and for each kind, with the cut.

    A line is a layer, from the first (dark) to the last (light), each relative to its largest value. The dashed lines
    are the numbers of experts that stay; dots to the right of them are experts that stay for other reasons.

    Args:
        layers: Saliency by the name of the experts' module, in the model's order.
        kept: Experts that stay, by the same names; a layer that is not here is drawn without a cut.
        path: The PNG file.
        metric: Measure to draw.

    Raises:
        OutputError: The file system refused.
        SottovoceError: matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise SottovoceError("plots need matplotlib; pip install matplotlib") from None
    named = dict.fromkeys(kind for saliency in layers.values() for kind in saliency.modalities)
    kinds: list[str | None] = [None, *named] if len(named) > 1 else [None]
    figure = Figure(figsize=(4.5 * len(kinds), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    colors = colormaps["viridis"]
    for panel, kind in zip(panels, kinds, strict=True):
        for number, (name, saliency) in enumerate(layers.items()):
            if kind is None or kind in saliency.modalities:
                color = colors(0.9 * number / max(len(layers) - 1, 1))
                _draw(panel, saliency.score(metric, kind), kept.get(name, ()), color)
        for cut in sorted({len(experts) for experts in kept.values()}):
            panel.axvline(cut + 0.5, color="black", linestyle="--", linewidth=0.8)
        panel.set_title("all tokens" if kind is None else f"{kind} tokens")
        panel.set_xlabel("experts by falling saliency")
    panels[0].set_ylabel(f"{metric}, relative to the layer's largest")
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error})") from error


def _draw(panel: Any, score: Tensor, kept: Sequence[int], color: Any) -> None:
    values, order = score.sort(descending=True, stable=True)
    heights = (values / values.max().clamp(min=1e-300)).tolist()
    panel.plot(range(1, len(heights) + 1), heights, color=color, linewidth=0.9, alpha=0.8)
    ranks = [rank for rank, expert in enumerate(order.tolist()) if expert in set(kept) and rank >= len(kept)]
    panel.plot([rank + 1 for rank in ranks], [heights[rank] for rank in ranks], ".", color=color, markersize=3)
