"""A step and a metric that a third party brings look like ours on cards, where their plugin is not installed too."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sottovoce
from core.toy import LETTERS, ToyPlugin, make_host, make_model
from hub.card.reports import tables
from sottovoce import Step, StepReport, Target
from sottovoce.entrypoints.record import record
from sottovoce.metrics.kinds import MetricKind
from sottovoce.report import Column, Coverage, Figure, Table
from sottovoce.text.translations import Text

LOUDNESS = MetricKind(
    name="loudness",
    unit="dB",
    better="higher",
    label=Text(en="loudness of the answers", zh="回答的响度"),
    description=Text(en="How loud the answers are."),
    headline=1,
)
WATTS = MetricKind(
    name="watts",
    unit="W",
    kind="cost",
    better="lower",
    label=Text(en="power", zh="功耗"),
    description=Text(en="Power that a run takes."),
)


class Whiten(Step):
    """A third party's step."""

    strength: float = 0.5
    effect = Text(en="whitened", zh="已白化")

    def summary(self, report: StepReport) -> Text:
        return Text(en=f"Whitened {len(report.targets)} layers.", zh=f"白化了 {len(report.targets)} 个层。")

    def tags(self, report: StepReport) -> tuple[str, ...]:
        return ("Whitened Weights",)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        columns = (
            Column(label=Text(en="layer", zh="层"), format="name"),
            Column(label=Text(en="whiteness", zh="白度"), format="percent"),
        )
        rows = tuple((name, share) for name, share in report.details["whiteness"].items())
        return (Table(title=Text(en="Whiteness by layer", zh="各层白度"), columns=columns, rows=rows),)

    def figures(self, report: StepReport) -> tuple[Figure, ...]:
        label = Text(en="Whiteness", zh="白度图")
        return (Figure(file="white.png", label=label), Figure(file="missing.png", label=label))


class ThirdParty:
    """Applies the step, and measures both metrics."""

    @sottovoce.hookimpl
    def sottovoce_compress(self, step, model):
        if not isinstance(step, Whiten):
            return None
        model.attachments["white.png"] = lambda path: path.write_bytes(b"\x89PNG")
        target = Target(name="blocks.0", parameters=1024)
        return StepReport(
            step=step.to_dict(),
            targets=(target,),
            coverage=Coverage.of(model.architecture.part_of, {"blocks.0": 1024, "head": 16}, [target]),
            details={"whiteness": {"blocks.0": 0.125}},
        )

    @sottovoce.hookimpl
    def sottovoce_evaluate(self, run):
        return [LOUDNESS.measured(-20.5), WATTS.measured(4.0)]


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """Both cards of a toy that was whitened and evaluated, written where neither step nor metric is known."""
    root = tmp_path_factory.mktemp("third")
    host = make_host(ToyPlugin(), ThirdParty())
    source = make_model(root / "toy")
    model = sottovoce.load(source, host=host)
    sottovoce.compress(model, {"steps": [{"step": "whiten", "strength": 0.25}]}, host=host)
    directory = sottovoce.save(model, root / "white", host=host)
    (root / "test.jsonl").write_text(json.dumps({"key": "1", "target": LETTERS}), encoding="utf-8")
    record(sottovoce.evaluate(directory, root / "test.jsonl", source, host=host), directory)
    code = (
        "import sys, pathlib\nfrom sottovoce_hub.card import check_metadata, write_card\n"
        "for name, text in write_card(pathlib.Path(sys.argv[1]), repository='me/white', hub='hf').items():\n"
        "    if name.endswith('.md'): pathlib.Path(sys.argv[2], name).write_bytes(text)\n"
        "assert check_metadata(pathlib.Path(sys.argv[2], 'README.md').read_text('utf-8')) == []\n"
        "assert 'core.toy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(directory), str(root)], check=True, timeout=120)
    return {name: (root / name).read_text("utf-8") for name in ("README.md", "README_zh.md")}


@pytest.mark.parametrize(
    ("name", "summary", "effect", "table", "figure"),
    [
        ("README.md", "- Whitened 1 layers.\n", "whitened", "Whiteness by layer:", "![Whiteness](white.png)"),
        ("README_zh.md", "- 白化了 1 个层。\n", "已白化", "各层白度：", "![白度图](white.png)"),
    ],
)
def test_a_third_partys_step_is_described_as_ours(cards, name, summary, effect, table, figure):
    text = cards[name]
    assert summary in text
    assert table in text
    assert figure in text
    assert "missing.png" not in text
    assert ["`blocks.0`".strip("`"), "12.50 %"] in sum(tables(text), [])
    assert effect in sum(sum(tables(text), []), [])
    assert "whitened-weights" in cards["README.md"].split("---\n")[1]


@pytest.mark.parametrize(
    ("name", "quality", "cost", "headline"),
    [
        ("README.md", "loudness of the answers ↑", "power ↓", "| loudness of the answers | -20.50 dB → -20.50 dB on 1"),
        ("README_zh.md", "回答的响度 ↑", "功耗 ↓", "| 回答的响度 | -20.50 dB → -20.50 dB（1 条样本） |"),
    ],
)
def test_a_third_partys_metrics_are_shown_as_ours(cards, name, quality, cost, headline):
    rows = sum(tables(cards[name]), [])
    assert [quality, "-20.50 dB", "-20.50 dB", "+0.00 dB"] in [row[:4] for row in rows]
    assert [cost, "4.00 W", "4.00 W", "× 1.00"] in [row[:4] for row in rows]
    assert headline in cards[name]
    assert "- loudness\n" in cards["README.md"].split("---\n")[1]
    assert "- watts\n" not in cards["README.md"].split("---\n")[1]


def test_a_metric_that_nobody_declared_is_called_by_its_name(tmp_path):
    host = make_host(ToyPlugin(), Undeclared())
    model = sottovoce.load(make_model(tmp_path / "toy"), host=host)
    (tmp_path / "test.jsonl").write_text(json.dumps({"key": "1", "target": LETTERS}), encoding="utf-8")
    metric = sottovoce.evaluate(model, tmp_path / "test.jsonl", host=host).metrics["mystery"]
    assert (metric.kind, metric.better, metric.label) == (None, None, None)


class Undeclared:
    """Measures what it declares nowhere."""

    @sottovoce.hookimpl
    def sottovoce_evaluate(self, run):
        return [sottovoce.Metric(name="mystery", value=1.0, unit="")]
