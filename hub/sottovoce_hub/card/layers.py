"""Tables of steps and layers: what was compressed and how closely, what was kept and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sottovoce.report import Column, GateReport, Kept, Part, StepReport, Table, Target, number_format
from sottovoce.text.translations import Text
from sottovoce_hub.card.markdown import Markdown, code, folded, table, text
from sottovoce_hub.card.translations import Translations

WORST = 5
"""Layers that are named for their error."""
LONGEST = 12
"""Rows of a table that is shown open."""


def coverage(step: StepReport, words: Translations) -> Markdown:
    """Return the compressed or removed parameters by part of the model."""
    assert step.coverage is not None
    effect = words("compressed") if step.effect is None else words.label(step.effect)
    rows: list[tuple[Markdown, Part]] = [(code(name), part) for name, part in step.coverage.parts.items()]
    total = Part(parameters=step.coverage.parameters, compressed_parameters=step.coverage.compressed_parameters)
    return table(
        [words("part"), words("parameters"), effect, words("share")],
        [
            [
                name,
                number_format.count(part.parameters),
                number_format.count(part.compressed_parameters),
                number_format.percent(part.compressed_parameters / part.parameters) if part.parameters else "",
            ]
            for name, part in (*rows, (words("total"), total))
        ],
    )


def widths(step: StepReport, words: Translations) -> Markdown:
    """Return the layers by the bits of their weights."""
    return table(
        [words("width"), words("layers"), words("parameters"), words("mean_bits")],
        [
            [
                str(width),
                number_format.count(len(targets)),
                number_format.count(sum(target.parameters for target in targets)),
                number_format.number(_mean_bits(targets)),
            ]
            for width, targets in step.by_width.items()
        ],
        align="rrrr",
    )


def _mean_bits(targets: Sequence[Target]) -> float:
    parameters = sum(target.parameters for target in targets)
    return float(sum(target.parameters * (target.bits or 0) for target in targets) / max(parameters, 1))


def kept(step: StepReport, words: Translations) -> Markdown:
    """Return what stays, by reason, the largest first."""
    groups: dict[str, list[Kept]] = defaultdict(list)
    for layer in step.kept:
        groups[layer.reason].append(layer)
    rows = [(reason, len(group), sum(layer.parameters for layer in group)) for reason, group in groups.items()]
    rows.sort(key=lambda row: -row[2])
    return table(
        [words("reason"), words("modules"), words("parameters")],
        [
            [words.sentence(reason), number_format.count(modules), number_format.count(parameters)]
            for reason, modules, parameters in rows
        ],
    )


def step_table(content: Table, words: Translations) -> Markdown:
    """Return a table that a step brought, with its title; folded where it is long."""
    headers = [words.label(column.label) for column in content.columns]
    rows = [
        [_cell(cell, column, words) for cell, column in zip(row, content.columns, strict=False)] for row in content.rows
    ]
    align = "".join("r" if column.format in ("number", "percent") else "l" for column in content.columns)
    shown = table(headers, [[*row, *[""] * (len(headers) - len(row))] for row in rows], align=align)
    title = words.label(content.title)
    return folded(title, shown) if len(rows) > LONGEST else Markdown(f"{title}{words('colon').rstrip()}\n\n{shown}")


def _cell(cell: str | Text | float | None, column: Column, words: Translations) -> Markdown:
    if cell is None:
        return Markdown("")
    if isinstance(cell, Text):
        return words.label(cell)
    if isinstance(cell, str):
        return code(cell) if column.format == "name" else text(cell)
    percent = column.format == "percent"
    return Markdown(number_format.small_percent(cell) if percent else number_format.number(cell))


def measured_layers(steps: Sequence[StepReport]) -> tuple[Target, ...]:
    """Return the layers of the last step that measured its error."""
    layers = (step.targets for step in reversed(steps))
    return next((targets for targets in layers if any(map(_has_error, targets))), ())


def _has_error(target: Target) -> bool:
    return target.output_error is not None or target.snr_db is not None


def worst(targets: Sequence[Target], words: Translations) -> Markdown:
    """Return the layers with the largest error, by their outputs where that was measured, else by their weights."""
    by_output = [target for target in targets if target.output_error is not None]
    if by_output:
        by_output.sort(key=lambda target: -(target.output_error or 0))
        rows = [
            [code(target.name), _error(target.output_error), _error(target.rounded_output_error)]
            for target in by_output[:WORST]
        ]
        return table([words("layer"), words("output_error"), words("output_error_rounded")], rows)
    by_weight = sorted((target.snr_db, target.name) for target in targets if target.snr_db is not None)
    rows = [[code(name), f"{number_format.number(snr)} dB"] for snr, name in by_weight[:WORST]]
    return table([words("layer"), words("snr")], rows)


def _error(share: float | None) -> str:
    return "" if share is None else number_format.small_percent(share)


def gate(gate: GateReport, words: Translations) -> Markdown:
    """Return the limits on the compression, and what was measured."""
    rows = []
    for limit, bound in gate.limits.items():
        name = gate.metric_of(limit)
        metric = words.label(gate.labels[name]) if name in gate.labels else text(name)
        side = "max" if limit.startswith("max_") else "min"
        increase = "_increase" if limit.endswith("_increase") else ""
        value = gate.found.get(limit)
        measured = "" if value is None else number_format.number(value)
        rows.append([words(f"limit_{side}{increase}", metric=metric), number_format.number(float(bound)), measured])
    return table([words("limit"), words("bound"), words("measured")], rows)


def restored(gate: GateReport, words: Translations) -> Markdown:
    """Return the layers that were restored to higher precision for the gate."""
    rows = [
        [code(layer.name), words("float") if layer.bits >= 16 else words("bits", bits=layer.bits)]
        for layer in gate.raised
    ]
    shown = table([words("layer"), words("restored_to")], rows, align="ll")
    return folded(words("more_rows", count=len(rows)), shown) if len(rows) > LONGEST else shown
