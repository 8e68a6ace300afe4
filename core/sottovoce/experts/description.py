"""Description of pruned and skipped experts for reports and model cards."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel

from sottovoce.report import Column, Figure, Table, number_format
from sottovoce.report.fields import Count, Measured
from sottovoce.report.number_format import counted
from sottovoce.text.translations import MODALITIES, Text

if TYPE_CHECKING:
    from sottovoce.report import StepReport

_LAYER = Text(en="layer", zh="层")
_OUTPUT_ERROR = Text(en="relative output error", zh="相对输出误差")
SALIENCY = Figure(
    file="saliency.png",
    label=Text(en="Experts of every layer by falling saliency, and the cut", zh="各层专家按显著性降序排列及裁剪位置"),
)
"""Picture that pruning writes where matplotlib is installed."""


class _Part(BaseModel):
    """Experts of one part of the model."""

    experts: Count
    kept: Count
    layers: Count
    saliency: str = ""


class _OutputError(BaseModel):
    """Loss of a layer's output."""

    error: Measured = None


class _Layer(BaseModel):
    """Experts of one layer."""

    experts: Count
    kept: tuple[Count, ...]
    routed_share: Mapping[str, Measured] = {}
    damage: _OutputError | None = None


class _Pruned(BaseModel):
    """Details of a report of ``prune_experts``."""

    parts: Mapping[str, _Part] = {}
    layers: Mapping[str, _Layer] = {}


class _Skipped(BaseModel):
    """Details of a report of ``skip_experts``."""

    saved: Mapping[str, Measured] = {}


def summarize_pruning(report: StepReport) -> Text:
    """Return one sentence on how many experts stay."""
    parts = _Pruned.model_validate(report.details).parts
    if not parts:
        return Text(en="Removed experts.", zh="移除了部分专家。")
    en = (
        f"{name} keeps {part.kept} of {part.experts} in each of {counted(part.layers, 'layer')}, "
        f"chosen by {part.saliency}"
        for name, part in parts.items()
    )
    zh = (
        f"{name} 的 {part.layers} 个层各保留 {part.experts} 个专家中的 {part.kept} 个（按 {part.saliency} 显著性选取）"
        for name, part in parts.items()
    )
    return Text(en=f"Removed experts: {'; '.join(en)}.", zh=f"移除专家：{'；'.join(zh)}。")


def tabulate_pruning(report: StepReport) -> tuple[Table, ...]:
    """Return the experts that stay in each layer, a table for each group of like layers."""
    groups: dict[str, dict[str, _Layer]] = defaultdict(dict)
    for name, layer in _Pruned.model_validate(report.details).layers.items():
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        pattern = name if number is None else f"{name[: number.start()]}*{name[number.end() :]}"
        groups[pattern][name if number is None else number[0]] = layer
    return tuple(_tabulate(pattern, layers) for pattern, layers in groups.items())


def _tabulate(pattern: str, layers: Mapping[str, _Layer]) -> Table:
    return Table(
        title=Text(
            en=f"Experts that stay in the {counted(len(layers), 'layer')} of {pattern}, by their original numbers",
            zh=f"{pattern} 的 {len(layers)} 个层中保留的专家（按原有编号）",
        ),
        columns=(
            Column(label=_LAYER, format="name"),
            Column(label=Text(en="experts before", zh="原有专家数"), format="number"),
            Column(label=Text(en="kept", zh="保留的专家")),
            Column(label=Text(en="share of routing kept", zh="保留的路由占比"), format="percent"),
            Column(label=_OUTPUT_ERROR, format="percent"),
        ),
        rows=tuple(
            (
                number,
                layer.experts,
                number_format.runs(layer.kept),
                layer.routed_share.get("all"),
                layer.damage.error if layer.damage else None,
            )
            for number, layer in layers.items()
        ),
    )


def summarize_skipping(threshold: float) -> Text:
    """Return one or two sentences on when an expert is skipped."""
    return Text(
        en=f"For each token, experts are skipped whose gate value is below {threshold} of the token's largest. "
        "Other libraries ignore this setting and run every expert that a token is routed to.",
        zh=f"对每个 token，跳过门控值低于该 token 最大门控值 {threshold} 倍的专家。"
        "其他库会忽略这项设置，运行 token 被路由到的全部专家。",
    )


def tabulate_skipping(report: StepReport) -> tuple[Table, ...]:
    """Return the share of expert runs that skipping saves, by kind of token; nothing where it was not counted."""
    shares = _Skipped.model_validate(report.details).saved
    rows = tuple((MODALITIES.get(kind, kind), share) for kind, share in shares.items() if share is not None)
    columns = (
        Column(label=Text(en="tokens", zh="token 类型")),
        Column(label=Text(en="expert runs saved", zh="省去的专家运行"), format="percent"),
    )
    title = Text(en="Expert runs saved on the calibration samples", zh="在校准样本上省去的专家运行")
    return (Table(title=title, columns=columns, rows=rows),) if rows else ()
