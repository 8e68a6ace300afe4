"""Steps say what they did, in two languages; files of earlier versions are described after the fact."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sottovoce import Coverage, StepReport, Target
from sottovoce.entrypoints.describe import describe, describe_step
from sottovoce.experts.step import PruneExperts, SkipExperts
from sottovoce.quantization.step import Quantize, Smooth
from sottovoce.recipe.step import Step
from sottovoce.report import CompressionReport, ParameterBits

LAYERS = tuple(Target(name=f"layer.{number}", parameters=100, bits=8.1) for number in range(3))
NARROW = (Target(name="layer.9", parameters=900, bits=4.25),)


def report(step: Step, targets: tuple[Target, ...] = LAYERS, **facts: Any) -> StepReport:
    return describe_step(StepReport(step=step.to_dict(), targets=targets, **facts), step)


@pytest.mark.parametrize(
    ("step", "targets", "en", "zh", "tags"),
    [
        (
            Quantize(method="squant"),
            LAYERS,
            "Quantized the weights of 3 layers to 8-bit integers (one scale per output channel) with SQuant; "
            "activations are quantized to 8 bits dynamically. "
            "It runs on any CPU, fastest on those with AVX512-VNNI, AVX-VNNI or AMX instructions.",
            "以 SQuant 将 3 个层的权重量化为 8 位整数（每个输出通道一个缩放因子），激活值动态量化为 8 位。"
            "可在任何 CPU 上运行，在支持 AVX512-VNNI、AVX-VNNI 或 AMX 指令的 CPU 上最快。",
            ("int8", "w8a8", "squant", "compressed-tensors"),
        ),
        (
            Quantize(bits=4, method="gptq", embeddings="int8"),
            (*NARROW, *LAYERS),
            "Quantized the weights of 4 layers to integers (1 to 4 bits, 3 to 8 bits; at 4 bits one scale per group of "
            "at most 64 inputs) with GPTQ; activations stay in floating point; embedding tables are stored in 8 bits.",
            "以 GPTQ 将 4 个层的权重量化为整数（1 个层为 4 位、3 个层为 8 位；"
            "4 位的层每组至多 64 个输入共用一个缩放因子），激活值保持浮点，嵌入表存为 8 位。",
            ("int4", "gptq", "compressed-tensors"),
        ),
        (
            Quantize(type="float"),
            LAYERS,
            "Quantized the weights of 3 layers to fp8 (e4m3, one scale per output channel) with rounding to nearest; "
            "activations stay in floating point.",
            "以就近舍入将 3 个层的权重量化为 fp8（e4m3，每个输出通道一个缩放因子），激活值保持浮点。",
            ("fp8", "compressed-tensors"),
        ),
        (
            Quantize(symmetric=False, group_size=32, method="hqq"),
            LAYERS,
            "Quantized the weights of 3 layers to 8-bit integers (one scale per group of 32 inputs, with zero points) "
            "with HQQ; activations stay in floating point.",
            "以 HQQ 将 3 个层的权重量化为 8 位整数（每组 32 个输入共用一个缩放因子，带零点），激活值保持浮点。",
            ("int8", "hqq", "compressed-tensors"),
        ),
        (
            Smooth(alpha=0.25),
            (),
            "Moved outliers of the activations into the weights (SmoothQuant, alpha 0.25).",
            "将激活值中的离群值转移到权重中（SmoothQuant，alpha 为 0.25）。",
            ("smoothquant",),
        ),
    ],
)
def test_a_step_says_what_it_did(
    step: Step, targets: tuple[Target, ...], en: str, zh: str, tags: tuple[str, ...]
) -> None:
    described = report(step, targets)
    assert described.summary is not None
    assert (described.summary.en, described.summary.zh) == (en, zh)
    assert described.tags == tags


def test_a_model_that_stays_float_has_no_tag_of_a_width() -> None:
    coverage = Coverage(parameters=1000, compressed_parameters=300)
    assert report(Quantize(), coverage=coverage).tags == ("w8a8", "compressed-tensors")


def test_pruned_experts_are_told_in_a_table() -> None:
    layer = {"experts": 8, "kept": [0, 1, 2, 5], "routed_share": {"all": 0.75}, "damage": {"error": 0.125}}
    details = {
        "parts": {"thinker": {"experts": 8, "kept": 4, "saliency": "reap", "layers": 2}},
        "layers": {"thinker.layers.0.mlp": layer, "thinker.layers.1.mlp": {**layer, "damage": None}, "other": layer},
    }
    described = report(PruneExperts(), (), details=details)
    assert str(described.summary) == "Removed experts: thinker keeps 4 of 8 in each of 2 layers, chosen by reap."
    assert described.tags == ("pruned", "expert-pruning", "reap")
    assert [len(table.rows) for table in described.tables] == [2, 1]
    assert described.tables[0].rows[0] == ("0", 8, "0-2, 5", 0.75, 0.125)
    assert described.tables[0].rows[1][-1] is None
    assert described.figures[0].file == "saliency.png"
    assert str(described.effect) == "removed"


def test_skipped_experts_are_told_with_what_is_saved() -> None:
    described = report(SkipExperts(threshold=0.25), (), details={"saved": {"all": 0.5, "audio": None, "text": 0.75}})
    assert described.summary is not None
    assert "below 0.25 of the token's largest" in described.summary.en
    assert "Other libraries ignore this setting" in described.summary.en
    (table,) = described.tables
    assert [(str(kind), share) for kind, share in table.rows] == [("all tokens", 0.5), ("text", 0.75)]
    assert report(SkipExperts(threshold=0.25), (), details={}).tables == ()


def test_every_step_of_ours_speaks_chinese() -> None:
    for step in (Quantize(), Smooth(), SkipExperts(threshold=0.1), PruneExperts(), Step()):
        summary = report(step, ()).summary
        assert summary is not None
        assert re.search("[\u4e00-\u9fff]", summary.zh), step


def whole(*steps: dict[str, Any]) -> CompressionReport:
    form = {
        "recipe": {"steps": [step["step"] for step in steps]},
        "architecture": "a",
        "source": {"name": "b"},
        "steps": list(steps),
        "coverage": {"parameters": 1, "compressed_parameters": 0},
        "size_bytes": {"before": 1, "after": 1},
        "seconds": 1,
        "peak_memory_bytes": None,
        "versions": {},
        "gate": {"limits": {"max_cer_increase": 1, "min_mystery": 2}},
    }
    return CompressionReport.from_dict(form)


def test_a_file_without_descriptions_is_described() -> None:
    described = describe(whole({"step": {"step": "smooth", "alpha": 0.5}}))
    assert "SmoothQuant" in str(described.steps[0].summary)
    assert described.gate is not None
    assert {name: str(label) for name, label in described.gate.labels.items()} == {"cer": "character error rate (CER)"}


@pytest.mark.parametrize(
    "step",
    [
        {"step": "from-elsewhere"},
        {"step": "smooth", "alpha": "a lot"},
        {"step": "quantize", "method": "<script>"},
    ],
)
def test_a_step_that_is_unknown_or_tampered_with_is_called_by_its_name(step: dict[str, Any]) -> None:
    described = describe(whole({"step": step})).steps[0]
    assert str(described.summary) == f"Applied the step {step['step']}."
    assert described.tags == (step["step"],)


def test_details_that_were_tampered_with_are_not_told() -> None:
    described = describe(
        whole({"step": {"step": "skip_experts", "threshold": 0.5}, "details": {"saved": {"all": "x"}}})
    )
    assert described.steps[0].tables == ()
    assert str(described.steps[0].summary) == "Applied the step skip_experts."


def test_a_description_that_travelled_is_kept() -> None:
    step = {"step": {"step": "smooth"}, "summary": {"en": "Something else."}, "tags": ["other"]}
    described = describe(whole(step)).steps[0]
    assert (str(described.summary), described.tags) == ("Something else.", ("other",))


def test_parameters_by_bits_are_read_by_key() -> None:
    bits = ParameterBits(before={"16": 10}, after={"4": 10})
    assert (bits["before"], bits.after["4"]) == ({"16": 10}, 10)
