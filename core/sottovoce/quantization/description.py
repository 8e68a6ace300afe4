"""Description of a quantization for reports and model cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sottovoce.report.number_format import counted
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.report import StepReport

Settings = Mapping[str, Any]
"""Settings of the step ``quantize``, as :meth:`sottovoce.Step.to_dict` returns them."""

ACTIVATIONS = {
    "none": Text(en="activations stay in floating point", zh="激活值保持浮点"),
    "dynamic": Text(en="activations are quantized to 8 bits dynamically", zh="激活值动态量化为 8 位"),
    "static": Text(
        en="activations are quantized to 8 bits statically, by calibrated ranges",
        zh="激活值按校准得到的范围静态量化为 8 位",
    ),
}
_EMBEDDINGS = Text(en="; embedding tables are stored in 8 bits", zh="，嵌入表存为 8 位")
_INSTRUCTIONS = Text(
    en=" It runs on any CPU, fastest on those with AVX512-VNNI, AVX-VNNI or AMX instructions.",
    zh="可在任何 CPU 上运行，在支持 AVX512-VNNI、AVX-VNNI 或 AMX 指令的 CPU 上最快。",
)


def summarize(settings: Settings, method: Text, report: StepReport) -> Text:
    """Return one sentence on what was quantized, and how."""
    layers, weights, activations = len(report.targets), _weights(settings, report), ACTIVATIONS[settings["activations"]]
    method_zh = _spaced(method.in_language("zh"))
    needs = _INSTRUCTIONS if settings["activations"] != "none" and settings.get("type", "int") == "int" else Text(en="")
    tables = _EMBEDDINGS if settings.get("embeddings") == "int8" else Text(en="")
    return Text(
        en=f"Quantized the weights of {counted(layers, 'layer')} to {weights.en} with {method.en}; "
        f"{activations.en}{tables.en}.{needs.en}",
        zh=f"以{method_zh}将 {layers} 个层的权重量化为{weights.zh}，{activations.zh}{tables.zh}。{needs.zh}",
    )


def _spaced(name: str) -> str:
    """Return a name as Chinese text has it: with spaces around Latin letters."""
    return f" {name} " if name.isascii() else name


def _weights(settings: Settings, report: StepReport) -> Text:
    scales, recipe_bits = _scales(settings), settings["bits"]
    if settings["type"] == "float":
        return Text(en=f"fp8 (e4m3, {scales.en})", zh=f" fp8（e4m3，{scales.zh}）")
    widths = report.by_width
    if len(widths) < 2:
        return Text(en=f"{recipe_bits}-bit integers ({scales.en})", zh=f" {recipe_bits} 位整数（{scales.zh}）")
    # Layers that no group divides, embedding tables and overrides have another width than the recipe says.
    en = ", ".join(f"{len(targets)} to {bits} bit{'' if bits == 1 else 's'}" for bits, targets in widths.items())
    zh = "、".join(f"{len(targets)} 个层为 {bits} 位" for bits, targets in widths.items())
    return Text(
        en=f"integers ({en}; at {recipe_bits} bits {scales.en})", zh=f"整数（{zh}；{recipe_bits} 位的层{scales.zh}）"
    )


def _scales(settings: Settings) -> Text:
    size = settings.get("group_size")
    if size is None:
        scales = Text(en="one scale per output channel", zh="每个输出通道一个缩放因子")
    elif size == "auto":
        scales = Text(en="one scale per group of at most 64 inputs", zh="每组至多 64 个输入共用一个缩放因子")
    else:
        scales = Text(en=f"one scale per group of {counted(size, 'input')}", zh=f"每组 {size} 个输入共用一个缩放因子")
    return scales if settings["symmetric"] else Text(en=f"{scales.en}, with zero points", zh=f"{scales.zh}，带零点")


def summarize_smoothing(alpha: float) -> Text:
    """Return one sentence on what was smoothed."""
    return Text(
        en=f"Moved outliers of the activations into the weights (SmoothQuant, alpha {alpha}).",
        zh=f"将激活值中的离群值转移到权重中（SmoothQuant，alpha 为 {alpha}）。",
    )


def tags(settings: Settings, report: StepReport) -> tuple[str, ...]:
    """Return the model card's tags: the width, the method, the format on disk."""
    method = () if settings["method"] == "round_to_nearest" else (settings["method"],)
    both = () if settings["activations"] == "none" else ("w8a8",)
    return (*_width(settings, report), *both, *method, "compressed-tensors")


def _width(settings: Settings, report: StepReport) -> tuple[str, ...]:
    """Return the width of most weights; nothing for a model that stays float for the greater part."""
    if report.coverage is not None and report.coverage.ratio < 0.5:
        return ()
    counts = {width: sum(target.parameters for target in targets) for width, targets in report.by_width.items()}
    width = max(counts, key=counts.__getitem__, default=settings["bits"])
    return ("fp8",) if settings["type"] == "float" else (f"int{width}",)
