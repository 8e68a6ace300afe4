"""Reports: their JSON, how strictly it is read, and how they look."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce import Coverage, EvaluationReport, Metric, StepReport
from sottovoce.entrypoints.describe import describe
from sottovoce.report import SCHEMA_VERSION, CompressionReport, Machine, SampleSet, number_format, to_json
from sottovoce.report.step import Target
from sottovoce.text.translations import Text

FORMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


def refuse(constant: str) -> None:
    raise AssertionError(constant)


@given(FORMS)
def test_whatever_a_report_holds_is_json(form: Any) -> None:
    again = json.loads(to_json(form), parse_constant=refuse)
    assert to_json(again) == to_json(form)


def test_finite_numbers_stay_and_others_are_null() -> None:
    assert json.loads(to_json({"a": [1.5, math.nan, (math.inf,)], "b": 2})) == {"a": [1.5, None, [None]], "b": 2}
    assert json.loads(to_json({"a": np.float64("nan")})) == {"a": None}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_metric_that_is_no_number_has_no_value(number: float) -> None:
    metric = Metric(name="loss", value=number, unit="", baseline=number)
    assert (metric.value, metric.baseline) == (None, None)
    assert Metric(name="loss", value=0.0, unit="", baseline=2).to_dict() == {"value": 0.0, "unit": "", "baseline": 2}


@pytest.mark.parametrize("value", [1e30, "x", True, [1], ["x"], [[]], {"a": 1}], ids=str)
@pytest.mark.parametrize("name", ["evaluations", "steps"])
def test_a_list_of_another_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}(\.0)?: "):
        CompressionReport.from_dict({name: value})


@pytest.mark.parametrize("value", [1e30, "x", [], None], ids=str)
@pytest.mark.parametrize("name", ["recipe", "source", "coverage", "versions", "size_bytes"])
def test_a_mapping_of_another_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}(\.0)?: "):
        CompressionReport.from_dict({name: value})


def form(**changes: Any) -> dict[str, Any]:
    """A whole report as the first version wrote it, with other values; ``size_bytes__after`` is a place in it."""
    made: dict[str, Any] = {
        "recipe": {"steps": [{"step": "quantize", "bits": 8}]},
        "architecture": "family",
        "source": {"name": "owner/base", "hub": "hf", "revision": None, "languages": ["zh"], "license": {"id": "mit"}},
        "steps": [
            {
                "step": {"step": "quantize", "bits": 8},
                "targets": [{"name": "a", "parameters": 4, "bits": 8.5, "snr_db": 40.25}],
                "kept": [{"name": "b", "parameters": 1, "reason": "normalization"}],
                "coverage": {
                    "parameters": 5,
                    "compressed_parameters": 4,
                    "ratio": 0.8,
                    "parts": {"encoder": {"parameters": 5, "compressed_parameters": 4}},
                },
                "seconds": 1.5,
                "timing": {},
                "notes": ["a note"],
                "details": {"anything": [1, {"deep": None}]},
            }
        ],
        "coverage": {"parameters": 5, "compressed_parameters": 4, "parts": {}, "ratio": 0.8},
        "size_bytes": {"before": 20, "after": 5},
        "seconds": 1,
        "peak_memory_bytes": None,
        "versions": {"sottovoce": "0.1.0"},
        "gate": {
            "limits": {"max_cer": 5},
            "found": {"max_cer": 4.5},
            "rounds": 1,
            "raised": [{"name": "a", "bits": 8}],
        },
        "evaluations": [
            {
                "model": "small",
                "architecture": "family",
                "samples": {"name": "t", "count": 2, "sha256": None},
                "machine": {"cores": 2, "versions": {}},
                "metrics": {
                    "cer": {"value": 4.5, "unit": "%", "baseline": 4},
                    "rtf": {
                        "value": 0.5,
                        "unit": "",
                        "baseline": 0.25,
                        "details": {"by_turns": {"ratio": {"median": 2.0, "quartiles": [1.5, 2.5], "rounds": 5}}},
                    },
                },
            }
        ],
    }
    for place, value in changes.items():
        *way, last = [int(key) if key.isdigit() else key for key in place.split("__")]
        inner: Any = made
        for key in way:
            inner = inner[key]
        inner[last] = value
    return made


def test_a_report_without_a_version_is_read_and_written_as_it_was() -> None:
    report = CompressionReport.from_dict(form())
    assert report.version == 1
    assert report.steps[0].targets[0].snr_db == 40.25
    assert report.evaluations[0].metrics["cer"].name == "cer"
    written = report.to_dict()
    assert written["steps"] == form()["steps"]
    assert written["coverage"] == form()["coverage"]
    assert CompressionReport.from_dict(json.loads(to_json(written))) == report


def test_a_file_of_the_first_version_is_read_as_it_was_written() -> None:
    old = json.loads((Path(__file__).parent / "compression_version_1.json").read_text("utf-8"))
    assert "version" not in old
    report = CompressionReport.from_dict(old)
    assert report.version == 1
    assert {key: value for key, value in report.to_dict().items() if key != "version"} == old
    assert "max_cer_increase 0" in str(report)
    described = describe(report)
    assert "Quantized the weights of 3 layers to 4-bit integers" in str(described.steps[0].summary)
    assert [metric.better for metric in described.evaluations[0].metrics.values()].count(None) == 0


def test_a_new_report_has_the_version_of_the_schema() -> None:
    old = CompressionReport.from_dict(form())
    fields = {name: value for name, value in vars(old).items() if name != "version"}
    assert CompressionReport(**fields).to_dict()["version"] == SCHEMA_VERSION == 2


def test_keys_of_later_versions_are_ignored() -> None:
    later = form(version=99, mood="good", source__mood=1, steps__0__mood=[], evaluations__0__metrics__cer__mood={})
    report = CompressionReport.from_dict(later)
    assert report.version == 99
    assert "mood" not in to_json(report.to_dict())


def test_a_field_is_read_by_attribute_and_by_key() -> None:
    report = CompressionReport.from_dict(form())
    assert report.size_bytes.after == report.size_bytes["after"] == 5
    assert report.steps[0]["step"]["bits"] == 8
    assert report.coverage["ratio"] == report.coverage.ratio == 0.8
    assert dict(report.source)["name"] == "owner/base"
    with pytest.raises(KeyError):
        report.source["to_dict"]


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("size_bytes__after", 2**64, "size_bytes.after: the number is too large"),
        ("size_bytes__after", -1, "size_bytes.after: "),
        ("size_bytes__after", 5.5, "size_bytes.after: "),
        ("size_bytes__after", "5", "size_bytes.after: "),
        ("size_bytes__after", True, "size_bytes.after: "),
        ("seconds", "1", "seconds: it should be a number"),
        ("seconds", math.inf, "seconds: "),
        ("seconds", 1e300, "seconds: the number is too large"),
        ("architecture", 3, "architecture: "),
        ("version", "two", "version: "),
        ("source__license", "mit", "source.license: it should be an object"),
        ("source__languages", "zh", "source.languages: "),
        ("steps__0__targets__0__bits", "8", "steps.0.targets.0.bits: it should be a number"),
        ("steps__0__kept__0__reason", None, "steps.0.kept.0.reason: "),
        ("steps__0__details", {"a": 10**400}, "steps.0.details: the number is too large"),
        ("steps__0__details", [], "steps.0.details: "),
        ("steps__0__summary", "text", "steps.0.summary: "),
        ("gate__limits", {"max_cer": None}, "gate.limits.max_cer: it should be a number"),
        ("evaluations__0__metrics__cer__value", "low", "evaluations.0.metrics.cer.value: it should be a number"),
        ("evaluations__0__metrics__cer__kind", "fun", "evaluations.0.metrics.cer.kind: "),
        (
            "evaluations__0__metrics__rtf__details__by_turns__ratio__quartiles",
            [1],
            "evaluations.0.metrics.rtf.details: by_turns: ",
        ),
        ("evaluations__0__samples__count", None, "evaluations.0.samples.count: "),
        ("parameter_bits", {"before": {}, "after": {"many": 3}}, "parameter_bits.after.many"),
    ],
)
def test_a_wrong_value_is_named_by_its_field(place: str, value: Any, problem: str) -> None:
    with pytest.raises(ValueError) as raised:
        CompressionReport.from_dict(form(**{place: value}))
    assert str(raised.value).startswith(problem)
    assert "\n" not in str(raised.value)


def test_details_that_are_nested_without_end_are_refused() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ValueError, match=r"^steps\.0\.details: it is nested too deeply"):
        CompressionReport.from_dict(form(steps__0__details={"a": deep}))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_measured_number_that_is_not_finite_was_not_measured(number: float) -> None:
    report = CompressionReport.from_dict(form(steps__0__targets__0__snr_db=number))
    assert report.steps[0].targets[0].snr_db is None


def test_printing_a_report_shows_its_table() -> None:
    report = CompressionReport.from_dict(form(output="small\x1b[31m"))
    text = str(report)
    assert text.splitlines()[0] == "small"
    assert [line.split("  ")[1] for line in text.splitlines()[1:4]] == ["quantize", "compressed", "weights"]
    assert "80.0% of 5 parameters" in text
    assert "20 B -> 5 B (x 0.25)" in text
    assert "max_cer 4.5; 1 layer restored to higher precision" in text
    assert repr(report) == "<CompressionReport of owner/base: quantize, 20 B -> 5 B>"


@pytest.mark.parametrize("count", [0, 1, 5, 6, 12])
def test_printing_a_report_shows_the_first_notes_and_how_many_there_are(count: int) -> None:
    facts = form()
    # The second step has the same notes: each is shown once.
    notes = [f"note {number}" for number in range(count)]
    facts["steps"] = [{**facts["steps"][0], "notes": notes}, {**facts["steps"][0], "notes": notes}]
    text = str(CompressionReport.from_dict(facts))
    assert [number for number in range(count) if f"note {number}\n" in f"{text}\n"] == list(range(min(count, 5)))
    more = {6: "1 note more in compression.json", 12: "7 notes more in compression.json"}.get(count)
    assert ("more in compression.json" in text) == (more is not None)
    assert more is None or more in text


def test_printing_an_evaluation_shows_its_table() -> None:
    evaluation = CompressionReport.from_dict(form()).evaluations[0]
    assert str(evaluation).splitlines() == [
        "small: 2 samples, 0 s of audio",
        "  metric   model",
        "  cer     4.50 %",
        "  rtf     0.5000",
    ]
    beside = CompressionReport.from_dict(form(evaluations__0__baseline="owner/base")).evaluations[0]
    assert str(beside).splitlines()[1].split() == ["metric", "baseline", "model", "change"]
    assert str(beside).splitlines()[2].split() == ["cer", "4", "%", "4.50", "%", "+0.50", "points"]
    assert str(beside).splitlines()[3].endswith("x 2.00 (1.50 to 2.50)")
    assert repr(evaluation) == "<EvaluationReport of small: cer 4.50 %, rtf 0.5000>"


def test_printing_an_evaluation_shows_what_its_numbers_do_not_say() -> None:
    facts: dict[str, Any] = {"model": "small", "architecture": "toy", "metrics": {}, "machine": Machine()}
    report = EvaluationReport(**facts, samples=SampleSet(count=40), baseline="base", cut_off=1, baseline_cut_off=2)
    lines = str(report).splitlines()
    assert lines[-2].startswith("small: 1 of 40 outputs ends at the model's limit of tokens")
    assert lines[-1].startswith("base: 2 of 40 outputs end at")
    assert "<p>small: 1 of 40 outputs ends" in report._repr_html_()
    assert not EvaluationReport(**facts, samples=SampleSet(count=40)).notes
    assert "cut_off" not in EvaluationReport(**facts, samples=SampleSet(count=40)).to_dict()


def test_a_notebook_shows_a_table_and_no_markup_of_others() -> None:
    shown = CompressionReport.from_dict(form(output="<script>"))._repr_html_()
    assert shown.startswith("<table><caption>&lt;script&gt;</caption>")
    assert "<td>compressed</td><td>80.0% of 5 parameters</td>" in shown
    evaluation = CompressionReport.from_dict(form(evaluations__0__model="<b>")).evaluations[0]
    assert "<caption>&lt;b&gt;: 2 samples" in evaluation._repr_html_()
    assert "<th>baseline</th>" not in evaluation._repr_html_()


def test_a_steps_description_travels_where_there_is_one() -> None:
    step = StepReport(step={"step": "x"}, summary=Text(en="Did x.", zh="做了 x。"), tags=("x",))
    assert step.to_dict()["summary"] == {"en": "Did x.", "zh": "做了 x。"}
    assert step.to_dict()["tags"] == ["x"]
    assert "tables" not in step.to_dict()


def test_layers_are_told_apart_by_their_width_and_those_of_earlier_reports_by_their_bits() -> None:
    targets = [
        Target(name="few in small groups", parameters=1, bits=4.0, width=2),
        Target(name="four in large groups", parameters=1, bits=4.125, width=4),
        Target(name="earlier", parameters=1, bits=4.25),
        Target(name="restored", parameters=1, bits=8.5),
        Target(name="cast", parameters=1, bits=16),
        Target(name="pruned", parameters=1),
    ]
    step = StepReport(step={"step": "quantize"}, targets=tuple(targets))
    assert "width" not in step.to_dict()["targets"][2]
    assert {width: [target.name for target in layers] for width, layers in step.by_width.items()} == {
        2: ["few in small groups"],
        4: ["four in large groups", "earlier"],
        8: ["restored"],
        16: ["cast"],
    }


def test_reports_are_made_by_keyword_as_before() -> None:
    evaluation = EvaluationReport(
        model="m",
        architecture="a",
        samples=SampleSet(count=1),
        metrics={"cer": Metric(name="cer", value=1, unit="%")},
        machine=Machine(),
    )
    assert evaluation.to_dict()["metrics"] == {"cer": {"value": 1, "unit": "%"}}
    assert Coverage(parameters=4, compressed_parameters=1).to_dict()["ratio"] == 0.25


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0.000141, "0.000141 nats"), (0.0, "0.00 nats"), (0.005, "0.01 nats"), (-0.0004, "-0.000400 nats")],
)
def test_small_value_keeps_its_digits(number: float, shown: str) -> None:
    assert number_format.value(number, "nats") == shown
