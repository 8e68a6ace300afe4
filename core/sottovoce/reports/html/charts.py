"""Pictures of a comparison: size against error, times and memory, sizes by part, errors by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sottovoce.report import ComparedModel, Comparison, LayerError, Metric, number_format
from sottovoce.reports.html.scale import Scale, linear, logarithmic
from sottovoce.reports.html.svg import WIDTH, Axes, color, marker, picture, text, titled

_NAMED = 20
"""Layers of a model that are named when they are pointed at."""
_LETTER = 7.2
"""Width of a letter of a picture's text, about."""


def size_against_error(comparison: Comparison) -> str:
    """Draw the size of each model against the deciding metric, with its interval; nothing where there is none."""
    name = comparison.metric or ""
    rows = [
        (number, model, metric, metric.value)
        for number, model in enumerate(comparison.models)
        if (metric := model.metrics.get(name)) is not None and metric.value is not None
    ]
    if len(rows) < 2:
        return ""
    bounds = [bound for _, model, _, value in rows for bound in (value, *_interval(model, name))]
    axes = Axes(
        linear([model.size_bytes / 1e6 for _, model, _, _ in rows], 60, WIDTH - 30, from_zero=True),
        linear(bounds, 280, 30, from_zero=min(bounds) >= 0 and rows[0][2].better != "higher"),
        "size of the weights, MB",
        _axis_label(rows[0][2]),
    )
    pieces = [axes.draw()]
    places: list[tuple[float, float, str]] = []
    for number, model, metric, value in rows:
        x, y = _beside(axes.x(model.size_bytes / 1e6), [place[0] for place in places]), axes.y(value)
        shape = marker(x, y, number, 7 if model.name == comparison.winner else 5)
        if interval := _interval(model, name):
            low, high = (axes.y(bound) for bound in interval)
            whisker = f"M{x:g} {low:g}V{high:g}M{x - 4:g} {low:g}h8M{x - 4:g} {high:g}h8"
            shape = f'<path d="{whisker}" class="whisker s{color(number)}"/>{shape}'
        title = f"{model.name}: {number_format.size(model.size_bytes)}, {number_format.value(value, metric.unit)}"
        pieces.append(titled(shape, title))
        places.append((x, y, model.name))
    pieces += _labels(places)
    return picture(pieces, 330, f"Size of the weights against {axes.y_label}, with 95 % intervals")


def _beside(x: float, taken: Sequence[float]) -> float:
    """Return a place, moved aside while another is there: models of one size would hide each other."""
    while any(abs(x - other) < 12 for other in taken):
        x += 3
    return x


def _axis_label(metric: Metric) -> str:
    better = {"lower": ", lower is better", "higher": ", higher is better"}.get(metric.better or "", "")
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{metric.label or metric.name}{unit}{better}"


def _interval(model: ComparedModel, name: str) -> tuple[float, ...]:
    interval = model.intervals.get(name)
    return () if interval is None else (interval.low, interval.high)


def _labels(places: Sequence[tuple[float, float, str]]) -> list[str]:
    """Write names beside points, on the right if possible, where they lie on no other name and on no point."""
    taken = [(y + 4, x - 8, x + 8) for x, y, _ in places]
    labels = []
    for x, y, name in sorted(places, key=lambda place: (place[1], place[0])):
        shown = name if len(name) <= 28 else f"{name[:25]}..."
        row, start, end, is_left = _free_place(x, y + 4, _LETTER * len(shown), taken)
        taken.append((row, start, end))
        labels.append(text(x - 10 if is_left else x + 10, row, shown, "name", "end" if is_left else "start"))
    return labels


def _free_place(
    x: float, row: float, width: float, taken: Sequence[tuple[float, float, float]]
) -> tuple[float, float, float, bool]:
    """Return row, start and end of a name beside a point, and whether it is on the left; farther rows come later."""
    sides = [(x + 10, x + 10 + width, False), (x - 10 - width, x - 10, True)]
    inside = [side for side in sides if side[0] >= 0 and side[1] <= WIDTH] or sides[:1]
    for distance in range(0, 13 * (len(taken) + 2)):
        for offset in (distance, -distance):
            for start, end, is_left in inside:
                free = all(
                    abs(row + offset - other) >= 13 or last <= start or end <= first for other, first, last in taken
                )
                if free and 12 <= row + offset <= 284:
                    return row + offset, start, end, is_left
    return row, *inside[0]


def bars(comparison: Comparison, name: str) -> str:
    """Draw one cost of all models as bars, with the quartiles of the rounds where it was timed by turns."""
    rows = [
        (number, model, metric, metric.value)
        for number, model in enumerate(comparison.models)
        if (metric := model.metrics.get(name)) is not None and metric.value is not None
    ]
    if not rows:
        return ""
    spans = [_quartiles(metric) for _, _, metric, _ in rows]
    most = max(bound for (_, _, _, value), span in zip(rows, spans, strict=True) for bound in (value, *span))
    scale = Scale(0.0, most * 1.02 or 1.0, 160, WIDTH - 110)
    pieces = []
    for row, ((number, model, metric, value), span) in enumerate(zip(rows, spans, strict=True)):
        y = 8 + 26 * row
        shape = _bar(scale, y, 0.0, value, color(number))
        if span:
            low, high = (scale(bound) for bound in span)
            shape += f'<path d="M{low:g} {y + 9:g}H{high:g}M{low:g} {y + 5:g}v8M{high:g} {y + 5:g}v8" class="whisker"/>'
        shown = number_format.value(value, metric.unit)
        pieces += [text(152, y + 13, _short(model.name), "name", "end"), titled(shape, f"{model.name}: {shown}")]
        pieces.append(text(scale(max((value, *span))) + 6, y + 13, shown, "tick"))
    return picture(pieces, 16 + 26 * len(rows), f"{rows[0][2].label or name} of every model")


def _quartiles(metric: Metric) -> tuple[float, ...]:
    turns = metric.turns
    return () if turns is None or turns.model is None else turns.model.quartiles


def _bar(scale: Scale, y: float, low: float, high: float, kind: str) -> str:
    start, end = scale(low), scale(high)
    return f'<rect x="{start:g}" y="{y:g}" width="{max(end - start, 0.5):.1f}" height="18" class="{kind}"/>'


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:17]}..."


def sizes_by_part(comparison: Comparison) -> str:
    """Draw the bytes of every part of the models as bars of pieces, with a legend."""
    parts = sorted({part for model in comparison.models for part in model.parts})
    if not parts:
        return ""
    scale = Scale(0.0, max(model.size_bytes for model in comparison.models) * 1.02 or 1.0, 160, WIDTH - 110)
    pieces = []
    for row, model in enumerate(comparison.models):
        y, done = 8 + 26 * row, 0
        pieces.append(text(152, y + 13, _short(model.name), "name", "end"))
        for number, part in enumerate(parts):
            if count := model.parts.get(part, 0):
                piece = _bar(scale, y, done, done + count, color(number))
                pieces.append(titled(piece, f"{model.name}, {part}: {number_format.size(count)}"))
                done += count
        pieces.append(text(scale(done) + 6, y + 13, number_format.size(model.size_bytes), "tick"))
    top = 22 + 26 * len(comparison.models)
    x, row_top = 160.0, float(top)
    for number, part in enumerate(parts):
        width = 30 + _LETTER * len(part)
        if x + width > WIDTH and x > 160:
            x, row_top = 160.0, row_top + 20
        pieces.append(f'<rect x="{x:g}" y="{row_top:g}" width="12" height="12" class="{color(number)}"/>')
        pieces.append(text(x + 17, row_top + 11, part, "tick"))
        x += width
    return picture(pieces, row_top + 22, "Size of the weights by part of the model")


def output_errors(comparison: Comparison) -> str:
    """Draw the error of the layers' outputs on the calibration samples, layer by layer."""
    return _layers(comparison, lambda layer: layer.output_error, "squared error of the output, share of its power")


def weight_errors(comparison: Comparison) -> str:
    """Draw the error of the layers' weights, layer by layer."""

    def error(layer: LayerError) -> float | None:
        return None if layer.snr_db is None else float(10 ** (-layer.snr_db / 10))

    return _layers(comparison, error, "squared error of the weight, share of its power")


def _layers(comparison: Comparison, error: Callable[[LayerError], float | None], label: str) -> str:
    rows = {
        number: [(layer, value) for layer in model.layers if (value := error(layer)) is not None and value > 0]
        for number, model in enumerate(comparison.models)
    }
    rows = {number: layers for number, layers in rows.items() if layers}
    order = _order([[layer.name for layer, _ in layers] for layers in rows.values()])
    if len(order) < 2:
        return ""
    place = {name: number for number, name in enumerate(order)}
    x = Scale(0, len(order) - 1, 60, WIDTH - 20)
    y = logarithmic([value for layers in rows.values() for _, value in layers], 210, 30)
    pieces = [Axes(Scale(0, len(order) - 1, 60, WIDTH - 20), y, "layers, in the order of the model", label).draw()]
    for number, layers in rows.items():
        dots = "".join(f"M{x(place[layer.name]):g} {y(value):g}h0" for layer, value in layers)
        pieces.append(f'<path d="{dots}" class="dots s{color(number)}"/>')
        for layer, value in sorted(layers, key=lambda pair: -pair[1])[:_NAMED]:
            title = f"{comparison.models[number].name}, {layer.name}: {number_format.small_percent(value)}"
            point = f'<circle cx="{x(place[layer.name]):g}" cy="{y(value):g}" r="3.5" class="{color(number)}"/>'
            pieces.append(titled(point, title))
    left = 60.0
    for number in rows:
        name = _short(comparison.models[number].name)
        pieces.append(f'<circle cx="{left:g}" cy="262" r="5" class="{color(number)}"/>')
        pieces.append(text(left + 10, 266, name, "name"))
        left += 34 + _LETTER * len(name)
    return picture(pieces, 276, label)


def _order(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return all names, in an order that is as that of each list, as far as the lists agree."""
    order: list[str] = []
    for names in lists:
        place = 0
        known = set(order)
        for name in names:
            if name in known:
                place = order.index(name) + 1
            else:
                order.insert(place, name)
                place += 1
    return order
