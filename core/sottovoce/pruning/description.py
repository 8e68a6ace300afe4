"""Description of pruned widths, heads and layers for reports and model cards."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel

from sottovoce.report import Column, Table
from sottovoce.report.fields import Count, Measured
from sottovoce.report.number_format import counted
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.report import StepReport

UNITS = Text(en="hidden units of each feed-forward layer", zh="个前馈隐藏单元（每层）")
HEADS = Text(en="attention heads of each layer", zh="个注意力头（每层）")
LAYERS = Text(en="layers", zh="层")


class PartCounts(BaseModel):
    """Numbers of one part of the model, before and after."""

    before: Count
    kept: Count
    layers: Count = 1


class LayerErrors(BaseModel):
    """Remainder of one layer, and the relative error of its output."""

    before: Count
    kept: tuple[Count, ...] = ()
    rows: Count = 0
    error_before_fit: Measured = None
    """On held-out samples, with the weights as they were."""
    error: Measured = None
    """On held-out samples, with weights that were fitted on the others."""
    fit_error: Measured = None
    """On the samples of the fit."""


class LayerRemoval(BaseModel):
    """One layer that was removed, and the divergence from the model before, in nats per token."""

    layer: str
    divergence: Measured = None
    """On samples of the choice and the fit."""
    held_out: Measured = None
    """On samples that are held out."""


class Pruned(BaseModel):
    """Details of the report of a step that prunes."""

    parts: Mapping[str, PartCounts] = {}
    layers: Mapping[str, LayerErrors] = {}
    removals: tuple[LayerRemoval, ...] = ()


def summarize(report: StepReport, what: Text) -> Text:
    """Return one sentence on how much stays of every part."""
    parts = Pruned.model_validate(report.details).parts
    if not parts:
        return Text(en=f"Removed {what.en}.", zh=f"移除了部分{what.zh.removeprefix('个')}。")
    en = "; ".join(f"{name} keeps {part.kept} of {part.before}" for name, part in parts.items())
    zh = "；".join(f"{name} 保留 {part.before} 中的 {part.kept}" for name, part in parts.items())
    return Text(en=f"Removed {what.en}: {en}.", zh=f"移除{what.zh.removeprefix('个')}：{zh}。")


def tabulate(report: StepReport) -> tuple[Table, ...]:
    """Return the errors of the layers, a table for each group of like layers."""
    groups: dict[str, dict[str, LayerErrors]] = defaultdict(dict)
    for name, layer in Pruned.model_validate(report.details).layers.items():
        if layer.error is None:
            continue
        number = re.search(r"(?<=\.)\d+(?=\.|$)", name)
        pattern = name if number is None else f"{name[: number.start()]}*{name[number.end() :]}"
        groups[pattern][name if number is None else number[0]] = layer
    return tuple(_tabulate(pattern, layers) for pattern, layers in groups.items())


def tabulate_removals(report: StepReport) -> tuple[Table, ...]:
    """Return the divergence after each removal of a layer."""
    removals = Pruned.model_validate(report.details).removals
    if not removals:
        return ()
    table = Table(
        title=Text(
            en="Divergence from the model before, in nats per token, after one layer after another was removed",
            zh="逐层移除后与原模型的散度（奈特/词元）",
        ),
        columns=(
            Column(label=Text(en="layer", zh="层"), format="name"),
            Column(label=Text(en="on the samples of the fit", zh="在拟合样本上"), format="number"),
            Column(label=Text(en="on held-out samples", zh="在留出样本上"), format="number"),
        ),
        rows=tuple((removal.layer, removal.divergence, removal.held_out) for removal in removals),
    )
    return (table,)


def _tabulate(pattern: str, layers: Mapping[str, LayerErrors]) -> Table:
    return Table(
        title=Text(
            en=f"Relative output error of the {counted(len(layers), 'layer')} of {pattern}, on held-out samples",
            zh=f"{pattern} 的 {len(layers)} 个层在留出样本上的相对输出误差",
        ),
        columns=(
            Column(label=Text(en="layer", zh="层"), format="name"),
            Column(label=Text(en="before", zh="原有"), format="number"),
            Column(label=Text(en="kept", zh="保留"), format="number"),
            Column(label=Text(en="without compensation", zh="未补偿"), format="percent"),
            Column(label=Text(en="with compensation", zh="补偿后"), format="percent"),
            Column(label=Text(en="on the samples of the fit", zh="在拟合样本上"), format="percent"),
        ),
        rows=tuple(
            (number, layer.before, len(layer.kept), layer.error_before_fit, layer.error, layer.fit_error)
            for number, layer in layers.items()
        ),
    )
