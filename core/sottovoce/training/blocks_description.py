"""Description of blocks that were distilled one by one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel

from sottovoce.report import Column, Table
from sottovoce.report.fields import Count, Measured
from sottovoce.report.number_format import counted
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.report import StepReport


class BlockErrors(BaseModel):
    """Relative squared error of a block's output on held-out samples."""

    before: Measured = None
    after: Measured = None
    trained: Count = 0
    """Number of parameters that were trained; 0 where the block kept its weights."""


class DistilledBlocks(BaseModel):
    """Details of the report."""

    blocks: Mapping[str, BlockErrors] = {}


def summarize(report: StepReport) -> Text:
    """Return one sentence on the errors."""
    blocks = [block for block in _blocks(report).values() if block.before]
    if not blocks:
        return Text(en="Distilled no block: none was changed before.", zh="未蒸馏任何块：此前没有块被修改。")
    ratios = [(block.after or 0.0) / (block.before or 1.0) for block in blocks]
    share = f"{100 * statistics.median(ratios):.0f} %"
    return Text(
        en=f"Distilled {counted(len(blocks), 'block')} one by one: half of them keep at most {share} of "
        "their output error.",
        zh=f"逐块蒸馏 {len(blocks)} 个块：其中一半的输出误差降至不超过原来的 {share}。",
    )


def tabulate(report: StepReport) -> tuple[Table, ...]:
    """Return the errors of the blocks."""
    blocks = _blocks(report)
    if not blocks:
        return ()
    table = Table(
        title=Text(en="Relative output error of the blocks, on held-out samples", zh="各块在留出样本上的相对输出误差"),
        columns=(
            Column(label=Text(en="block", zh="块"), format="name"),
            Column(label=Text(en="before distilling", zh="蒸馏前"), format="percent"),
            Column(label=Text(en="after", zh="蒸馏后"), format="percent"),
        ),
        rows=tuple((name, block.before, block.after) for name, block in blocks.items()),
    )
    return (table,)


def _blocks(report: StepReport) -> Mapping[str, BlockErrors]:
    return DistilledBlocks.model_validate(report.details).blocks
