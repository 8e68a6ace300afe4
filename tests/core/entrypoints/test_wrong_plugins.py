"""Steps, metrics and formats of plugins that break the contract: each is one error that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from core.toy import LETTERS, ToyPlugin, make_host, make_model
from sottovoce import Metric, Sample, Samples, Step, StepReport, Text
from sottovoce.calibration.block_step import BlockStep
from sottovoce.errors import PluginError
from sottovoce.formats import Format, format
from sottovoce.model import Model
from sottovoce.plugins.host import Host
from sottovoce.report import Figure

SAMPLES = Samples((Sample(key="one", text=LETTERS),))


class Odd(Step):
    """A step whose descriptions may be anything."""

    mode: str = ""

    def summary(self, report: StepReport) -> Text:
        if self.mode == "raises":
            raise KeyError("boo")
        return "text" if self.mode == "text" else Text(en="It was odd.")  # type: ignore[return-value]

    def tags(self, report: StepReport) -> tuple[str, ...]:
        return "tags" if self.mode == "tags" else ("odd",)  # type: ignore[return-value]

    def figures(self, report: StepReport) -> tuple[Figure, ...]:
        names = {"above": "../../x.png", "absolute": "/etc/passwd", "drive": "C:x.png"}
        return (Figure(file=names[self.mode], label=Text(en="x")),) if self.mode in names else ()


class OddByBlock(Odd):
    """The same, block by block."""

    by_block = True


class Blocks(BlockStep):
    """Applier of the step that changes nothing."""

    name = "odd_by_block"
    layers = ("blocks.0",)

    def __init__(self, facts: Any = None, report: Any = None, layers: Any = ("blocks.0",)) -> None:
        self._facts, self._report = {} if facts is None else facts, report
        type(self).layers = layers

    def process_block(self, block: Any) -> dict[str, Any]:
        return self._facts  # type: ignore[no-any-return]

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        return None

    def on_end(self) -> StepReport:
        return StepReport(step={"step": self.name}) if self._report is None else self._report


class OddPlugin:
    """Plugin that answers with what it is given."""

    def __init__(self, applied: Any = None, metrics: Callable[[], Any] = lambda: []) -> None:
        self._applied, self._metrics = applied, metrics

    @sottovoce.hookimpl
    def sottovoce_compress(self, step: Step, model: Model) -> Any:
        if not isinstance(step, Odd):
            return None
        return self._applied(model) if callable(self._applied) else self._applied or StepReport(step=step.to_dict())

    @sottovoce.hookimpl
    def sottovoce_evaluate(self) -> Iterable[Metric]:
        return self._metrics()  # type: ignore[no-any-return]


def host_of(*values: Any, **named: Any) -> Host:
    return make_host(ToyPlugin(), OddPlugin(*values, **named))


def compress(folder: Path, host: Host, step: str = "odd", mode: str = "", resume: Path | None = None) -> Model:
    model = sottovoce.load(make_model(folder / "toy"), host=host)
    sottovoce.compress(model, {"steps": [{"step": step, "mode": mode}]}, host=host, resume=resume)
    return model


@pytest.mark.parametrize("mode", ["raises", "text", "tags", "above", "absolute", "drive"])
def test_step_that_cannot_describe_its_work_is_named_only(
    tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = host_of()
    model = compress(tmp_path, host, mode=mode)
    assert f"'odd' of {__name__} cannot describe its work" in caplog.text
    sottovoce.save(model, tmp_path / "small", host=host)
    report = sottovoce.load(tmp_path / "small", host=host).report
    assert report is not None
    assert report.steps[0].summary == Text(en="Applied the step odd.", zh="执行了步骤 odd。")
    assert report.steps[0].figures == ()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"details": {"a": object()}}, "not JSON serializable"),
        ({"details": {"a": torch.ones(1)}}, "not JSON serializable"),
        ({"details": {"a": 1e300}}, "too large"),
        ({"details": {"a": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]}}, "nested too deeply"),
        ({"notes": "a string"}, "notes: "),
        ({"seconds": "long"}, "seconds: it should be a number"),
    ],
)
def test_report_that_no_file_can_hold_is_refused(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    report = StepReport(step={"step": "odd"}, **fields)
    with pytest.raises(PluginError, match=f"'odd' of {__name__} gave a report that cannot be kept: .*{problem}"):
        compress(tmp_path, host_of(report))


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/b", "", "compression.json", "model.safetensors"])
def test_attachment_that_is_no_further_file_is_refused(tmp_path: Path, name: str) -> None:
    def attach(model: Model) -> StepReport:
        model.attachments[name] = lambda path: path.write_text("evil") and None
        return StepReport(step={"step": "odd"})

    host = host_of(attach)
    model = compress(tmp_path, host)
    with pytest.raises(PluginError, match="the attachment .* is not the name of a further file"):
        sottovoce.save(model, tmp_path / "small", host=host)
    assert {path.name for path in tmp_path.iterdir()} == {"toy"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"facts": 5}, "process_block gave int"),
        ({"facts": {"a": object()}}, "not in the form of JSON"),
        ({"report": "done"}, "on_end gave str"),
        ({"layers": "blocks.0"}, "layers is str"),
        ({"layers": None}, "layers is NoneType"),
    ],
)
def test_block_step_that_breaks_the_contract_is_named(tmp_path: Path, arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(PluginError, match=problem):
        compress(tmp_path, host_of(Blocks(**arguments)), "odd_by_block", resume=tmp_path / "kept")


def test_block_step_that_lacks_a_member_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="on_end"):
        type("Lacking", (BlockStep,), {"layers": (), "process_block": 1, "restore_block": 1})()


def test_a_single_metric_is_taken(tmp_path: Path) -> None:
    host = host_of(metrics=lambda: Metric(name="m", value=3, unit=""))
    model = sottovoce.load(make_model(tmp_path / "toy"), host=host)
    assert sottovoce.evaluate(model, SAMPLES, host=host).metrics["m"].value == 3


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("abc", "gave 'a', which is not a Metric"),
        (3, "gave 3, which is not a Metric"),
        ([Metric(name="m", value="3", unit="")], "'m' .* value: it should be a number"),  # type: ignore[arg-type]
        ([Metric(name="m", value=10**400, unit="")], "'m' .* value: the number is too large"),
        ([Metric(name="m", value=torch.ones(()), unit="")], "'m' .* not JSON"),  # type: ignore[arg-type]
        ([Metric(name="m", value=1, unit="", details={"a": object()})], "'m' .* not JSON"),
        ([Metric(name="m", value=1, unit="", label="x")], "'m' .* label: "),  # type: ignore[arg-type]
        ([Metric(name=None, value=1, unit="")], "None .* name: "),  # type: ignore[arg-type]
    ],
)
def test_metric_that_no_report_can_hold_is_refused(tmp_path: Path, answer: Any, problem: str) -> None:
    host = host_of(metrics=lambda: answer)
    with pytest.raises(PluginError, match=problem):
        sottovoce.evaluate(sottovoce.load(make_model(tmp_path / "toy"), host=host), SAMPLES, host=host)


def leave(code: int) -> None:
    raise SystemExit(code)


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda directory: None, "'odd' of elsewhere wrote no file"),
        (lambda directory: (directory / "folder").mkdir(), "'odd' of elsewhere wrote no file"),
        (lambda directory: (directory / "a").symlink_to("/etc/passwd"), "'odd' of elsewhere wrote the link a"),
        (lambda directory: leave(3), "ended the process"),
    ],
)
def test_format_that_writes_nothing_of_its_own_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Any], problem: str
) -> None:
    monkeypatch.setattr(format, "_FORMATS", {})
    members = {
        "__module__": "elsewhere",
        "name": "odd",
        "label": Text(en="odd"),
        "write": lambda self, model, directory: write(directory),
        "check": lambda self, directory: None,
    }
    type("OddFormat", (Format,), members)
    host = make_host()
    with pytest.raises(PluginError, match=problem):
        sottovoce.export(sottovoce.load(make_model(tmp_path / "toy"), host=host), "odd", tmp_path / "out", host=host)
    assert {path.name for path in tmp_path.iterdir()} == {"toy"}


def test_formats_that_disagree_do_not_keep_a_model_from_being_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(format, "_FORMATS", {})
    for module in ("one_plugin", "other_plugin"):
        members = {"__module__": module, "name": "odd", "label": Text(en="odd"), "write": 1, "check": 1}
        type("OddFormat", (Format,), members)
    host = make_host()
    model = sottovoce.load(make_model(tmp_path / "toy"), host=host)
    sottovoce.save(model, tmp_path / "saved", host=host)
    assert "'odd' of other_plugin is taken for toy by one_plugin" in caplog.text
