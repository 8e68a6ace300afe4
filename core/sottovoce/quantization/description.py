"""Description of a quantization for reports and model cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.quantization.step import Quantize, Smooth
    from sottovoce.report import StepReport

ACTIVATIONS = {
    "none": Text(en="activations stay in floating point", zh="激活值保持浮点"),
    "dynamic": Text(en="activations are quantized to 8 bits dynamically", zh="激活值动态量化为 8 位"),
    "static": Text(
        en="activations are quantized to 8 bits statically, by calibrated ranges",
        zh="激活值按校准得到的范围静态量化为 8 位",
    ),
}
_EMBEDDINGS = Text(en="; embedding tables are stored in 8 bits", zh="，嵌入表存为 8 位")


def summarize(step: Quantize, report: StepReport) -> Text:
    """Return one sentence on what was quantized, and how."""
    layers, weights, activations = len(report.targets), _weights(step, report), ACTIVATIONS[step.activations]
    method, method_zh = step.options.label, _spaced(step.options.label.in_language("zh"))
    tables = _EMBEDDINGS if step.embeddings == "int8" else Text(en="")
    return Text(
        en=f"Quantized the weights of {layers} layers to {weights.en} with {method.en}; {activations.en}{tables.en}.",
        zh=f"以{method_zh}将 {layers} 个层的权重量化为{weights.zh}，{activations.zh}{tables.zh}。",
    )


def _spaced(name: str) -> str:
    """Return a name as Chinese text has it: with spaces around Latin letters."""
    return f" {name} " if name.isascii() else name


def _weights(step: Quantize, report: StepReport) -> Text:
    scales = _scales(step)
    if step.type == "float":
        return Text(en=f"fp8 (e4m3, {scales.en})", zh=f" fp8（e4m3，{scales.zh}）")
    widths = report.by_width
    if len(widths) < 2:
        return Text(en=f"{step.bits}-bit integers ({scales.en})", zh=f" {step.bits} 位整数（{scales.zh}）")
    # Layers that no group divides, embedding tables and overrides have another width than the recipe says.
    en = ", ".join(f"{len(targets)} to {bits} bits" for bits, targets in widths.items())
    zh = "、".join(f"{len(targets)} 个层为 {bits} 位" for bits, targets in widths.items())
    return Text(
        en=f"integers ({en}; at {step.bits} bits {scales.en})", zh=f"整数（{zh}；{step.bits} 位的层{scales.zh}）"
    )


def _scales(step: Quantize) -> Text:
    if step.group_size is None:
        scales = Text(en="one scale per output channel", zh="每个输出通道一个缩放因子")
    elif step.group_size == "auto":
        scales = Text(en="one scale per group of at most 64 inputs", zh="每组至多 64 个输入共用一个缩放因子")
    else:
        size = step.group_size
        scales = Text(en=f"one scale per group of {size} inputs", zh=f"每组 {size} 个输入共用一个缩放因子")
    return scales if step.symmetric else Text(en=f"{scales.en}, with zero points", zh=f"{scales.zh}，带零点")


def summarize_smoothing(step: Smooth) -> Text:
    """Return one sentence on what was smoothed."""
    return Text(
        en=f"Moved outliers of the activations into the weights (SmoothQuant, alpha {step.alpha}).",
        zh=f"将激活值中的离群值转移到权重中（SmoothQuant，alpha 为 {step.alpha}）。",
    )


def tags(step: Quantize, report: StepReport) -> tuple[str, ...]:
    """Return the model card's tags: the width, the method, the format on disk."""
    method = () if step.method == "round_to_nearest" else (step.method,)
    both = () if step.activations == "none" else ("w8a8",)
    return (*_width(step, report), *both, *method, "compressed-tensors")


def _width(step: Quantize, report: StepReport) -> tuple[str, ...]:
    """Return the width of most weights; nothing for a model that stays float for the greater part."""
    if report.coverage is not None and report.coverage.ratio < 0.5:
        return ()
    counts = {width: sum(target.parameters for target in targets) for width, targets in report.by_width.items()}
    width = max(counts, key=counts.__getitem__, default=step.bits)
    return ("fp8",) if step.type == "float" else (f"int{width}",)
