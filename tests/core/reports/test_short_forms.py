"""What a notebook shows of results: one line that identifies them."""

from __future__ import annotations

from sottovoce import Kept, Quantize, Recipe, SearchResult, StepReport, Target
from sottovoce.entrypoints.check import Check, EngineCheck
from sottovoce.plugins.host import Host
from sottovoce.report.comparison import ComparedModel
from sottovoce.report.explanation import Explanation


def test_the_result_of_a_search_is_shown_on_one_line() -> None:
    result = SearchResult(
        recipe=Recipe(steps=(Quantize(bits=4),)),
        model="tiny",
        size_bytes={"before": 13_200_000, "after": 2_300_000, "least": 2_000_000},
        divergence={"audio": 0.1},
        interval=(0.0, 0.2),
        predicted=0.1,
    )
    assert repr(result) == "<SearchResult for tiny: quantize, 13.2 MB -> 2.3 MB>"


def test_a_check_is_shown_on_one_line() -> None:
    engines = (EngineCheck(engine="sottovoce", version="1"), EngineCheck(engine="vllm", version="", state="failed"))
    check = Check(
        directory="i8", reference="sottovoce", engines=engines, samples=2, limits={}, machine={}, date="2026-01-01"
    )
    assert repr(check) == "<Check of i8, not passed: sottovoce ok, vllm failed>"


def test_the_report_of_a_step_is_shown_on_one_line() -> None:
    targets = tuple(Target(name=f"layers.{number}", parameters=9) for number in range(300))
    report = StepReport(step={"step": "quantize"}, targets=targets, kept=(Kept(name="a", parameters=1, reason="b"),))
    assert repr(report) == "<StepReport of quantize: 300 layers changed, 1 part kept>"


def test_a_model_of_a_comparison_is_shown_on_one_line() -> None:
    assert repr(ComparedModel(name="int8", size_bytes=3_700_000, metrics={})) == "<ComparedModel int8: 3.7 MB>"


def test_a_family_and_a_host_are_shown_by_their_names() -> None:
    host = Host(allow=["paraformer"])
    assert repr(host) == "<Host: paraformer>"
    assert repr(host.architectures["paraformer"]) == "<Architecture paraformer>"


def test_an_explanation_is_shown_on_one_line() -> None:
    explanation = Explanation(key="a", model="i8", baseline="tiny", divergence=0.12345)
    assert repr(explanation) == "<Explanation of a, i8 against tiny: divergence 0.123 nats per token>"
