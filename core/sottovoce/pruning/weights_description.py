"""Description of zeros for reports and model cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from sottovoce.report import Column, Table
from sottovoce.report.fields import Count
from sottovoce.report.number_format import counted
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.report import StepReport

_NAMES = {"magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT"}


class Zeros(BaseModel):
    """Details of the report of ``prune_weights``: sums over its layers, in the dtype that they have then."""

    weights: Count = 0
    zeros: Count = 0
    dense_bytes: Count = 0
    """Size as they are stored, zeros included."""
    bitmask_bytes: Count = 0
    """Size that a compressor would store: a bit for each weight, and the values that are not zero."""


def summarize(report: StepReport, method: str, pattern: str | None) -> Text:
    """Return how many weights are zero, and what that saves."""
    zeros = Zeros.model_validate(report.details)
    share = f"{zeros.zeros / max(zeros.weights, 1):.1%}"
    en = f"Set {share} of the weights of {counted(len(report.targets), 'layer')} to zero by {_NAMES[method]}"
    zh = f"用 {_NAMES[method]} 将 {len(report.targets)} 个层中 {share} 的权重置零"
    if pattern:
        en += f" in the pattern {pattern}, which only GPUs with sparse tensor cores make use of"
        zh += f"（{pattern} 模式，仅支持稀疏张量核心的 GPU 能利用）"
    saves = "Zeros alone save no bytes and no time on CPUs."
    return Text(en=f"{en}. {saves}", zh=f"{zh}。仅置零在 CPU 上既不减小体积，也不加快速度。")


def tabulate(report: StepReport) -> tuple[Table, ...]:
    """Return the sizes of the layers, dense and as a bitmask with values."""
    zeros = Zeros.model_validate(report.details)
    return (
        Table(
            title=Text(en="Layers with zeros", zh="含零的层"),
            columns=(
                Column(label=Text(en="weights", zh="权重数"), format="number"),
                Column(label=Text(en="zeros", zh="零的个数"), format="number"),
                Column(label=Text(en="bytes on disk (dense)", zh="磁盘字节数（稠密）"), format="number"),
                Column(label=Text(en="bytes as bitmask and values", zh="位掩码加数值的字节数"), format="number"),
            ),
            rows=((zeros.weights, zeros.zeros, zeros.dense_bytes, zeros.bitmask_bytes),),
        ),
    )
