"""Tables of the layers: what was compressed and how closely, what stays and why, which experts are left."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from sottovoce_hub.card import figures
from sottovoce_hub.card.markdown import Markdown, code, folded, table
from sottovoce_hub.card.report import Gate, Kept, Part, PrunedLayer, Step, Target
from sottovoce_hub.card.wording import Wording

WORST = 5
"""Layers that are named for their error."""
LONGEST = 12
"""Rows of a table that is shown open."""


def coverage(step: Step, wording: Wording) -> Markdown | None:
    """Compressed or removed parameters by part of the model; ``None`` where they were not counted."""
    found = step.coverage
    if found is None:
        return None
    changed = wording("removed" if step.name == "prune_experts" else "compressed")
    rows: list[tuple[Markdown, Part]] = [(code(name), part) for name, part in found.parts.items()]
    rows.append((wording("all_parts"), found))
    return table(
        [wording("part"), wording("parameters"), changed, wording("share")],
        [
            [
                name,
                figures.count(part.parameters),
                figures.count(part.compressed_parameters),
                figures.percent(part.compressed_parameters / part.parameters) if part.parameters else "",
            ]
            for name, part in rows
        ],
    )


def widths(step: Step, wording: Wording) -> Markdown | None:
    """How many bits the weights have; ``None`` where no layer tells it."""
    groups = step.by_width
    if not groups:
        return None
    return table(
        [wording("width"), wording("layers"), wording("parameters"), wording("mean_bits")],
        [
            [
                str(width),
                figures.count(len(group)),
                figures.count(sum(target.parameters for target in group)),
                figures.number(_mean_bits(group)),
            ]
            for width, group in groups.items()
        ],
        align="rrrr",
    )


def _mean_bits(targets: Sequence[Target]) -> float:
    parameters = sum(target.parameters for target in targets)
    return float(sum(target.parameters * (target.bits or 0) for target in targets) / max(parameters, 1))


def kept(layers: Iterable[Kept], wording: Wording) -> Markdown | None:
    """What stays, by reason, the largest first; ``None`` where nothing does."""
    groups: dict[str, list[Kept]] = defaultdict(list)
    for layer in layers:
        groups[layer.reason].append(layer)
    if not groups:
        return None
    rows = [(reason, len(group), sum(layer.parameters for layer in group)) for reason, group in groups.items()]
    rows.sort(key=lambda row: -row[2])
    return table(
        [wording("reason"), wording("modules"), wording("parameters")],
        [[wording.sentence(reason), figures.count(number), figures.count(size)] for reason, number, size in rows],
    )


def worst(targets: Sequence[Target], wording: Wording) -> Markdown | None:
    """The layers that err most; ``None`` where no error was measured."""
    by_output = [target for target in targets if target.output_error is not None]
    if by_output:
        by_output.sort(key=lambda target: -(target.output_error or 0))
        return table(
            [wording("layer"), wording("output_error"), wording("output_error_rounded")],
            [[code(each.name), _error(each.output_error), _error(each.rounded_output_error)]
             for each in by_output[:WORST]],
        )  # fmt: skip
    by_weight = [target for target in targets if target.snr_db is not None]
    by_weight.sort(key=lambda target: target.snr_db or 0)
    if not by_weight:
        return None
    return table(
        [wording("layer"), wording("snr")],
        [[code(each.name), f"{figures.number(each.snr_db or 0)} dB"] for each in by_weight[:WORST]],
    )


def _error(share: float | None) -> str:
    return "" if share is None else f"{figures.number(100 * share)} %"


def experts(step: Step, wording: Wording) -> list[Markdown]:
    """Which experts stay in each layer, a table for each group of like layers."""
    groups: dict[str, dict[str, PrunedLayer]] = defaultdict(dict)
    for name, layer in step.details.layers.items():
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        pattern = name if number is None else f"{name[: number.start()]}*{name[number.end() :]}"
        groups[pattern][name if number is None else number[0]] = layer
    return [_experts(pattern, layers, wording) for pattern, layers in groups.items()]


def _experts(pattern: str, layers: dict[str, PrunedLayer], wording: Wording) -> Markdown:
    made = table(
        [wording("layer"), wording("experts_before"), wording("experts_stay"), wording("routed_share"),
         wording("damage")],
        [
            [
                number,
                str(layer.experts),
                figures.runs(list(layer.kept)),
                "" if (share := layer.routed_share.get("all")) is None else figures.percent(share),
                _error(layer.damage.error if layer.damage else None),
            ]
            for number, layer in layers.items()
        ],
        align="lrlrr",
    )  # fmt: skip
    title = wording("layers_of", count=len(layers), pattern=code(pattern))
    return folded(title, made) if len(layers) > LONGEST else Markdown(f"{title}\n\n{made}")


def saved(step: Step, wording: Wording) -> Markdown | None:
    """The share of expert runs that skipping saves, by kind of token; ``None`` where it was not counted."""
    shares = {kind: share for kind, share in step.details.saved.items() if share is not None}
    if not shares:
        return None
    return table(
        [wording("tokens"), wording("saved")],
        [[wording.kind(kind), figures.percent(share)] for kind, share in shares.items()],
    )


def gate(held: Gate, wording: Wording) -> Markdown:
    """What was asked of the compression, and what was found."""
    rows = []
    for limit, bound in held.limits.items():
        side = "max" if limit.startswith("max_") else "min"
        metric = limit.removeprefix("max_").removeprefix("min_")
        increase = "_increase" if metric.endswith("_increase") else ""
        named = wording(f"limit_{side}{increase}", metric=wording.metric(metric.removesuffix("_increase")))
        found = held.found.get(limit)
        rows.append([named, figures.number(bound), "" if found is None else figures.number(found)])
    return table([wording("limit"), wording("asked"), wording("found")], rows)


def raised(held: Gate, wording: Wording) -> Markdown | None:
    """The layers that were made more precise again for the gate; ``None`` where none had to be."""
    if not held.raised:
        return None
    rows = [
        [code(each.name), wording("float_layers") if each.bits >= 16 else wording("bits_layers", bits=each.bits)]
        for each in held.raised
    ]
    made = table([wording("layer"), wording("raised_to")], rows, align="ll")
    return folded(wording("more_rows", count=len(rows)), made) if len(rows) > LONGEST else made
