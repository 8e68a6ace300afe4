"""Calibration that was interrupted goes on where it was, to the very result that it would have had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sottovoce
from core.commands import Runner, toy_runner
from core.toy import ToyPlugin, make_host, make_model
from sottovoce import CompressionReport, Model, Sample, Samples
from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.errors import OutputError
from sottovoce.quantization.methods import gptq

BLOCKS = 4
PLUGIN = ToyPlugin(inputs=("text",))
HOST = make_host(PLUGIN)
TEXTS = ("abcdefgh", "hagb", "cd")
RECIPE = {"steps": [{"step": "quantize", "bits": 4, "method": "gptq"}]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy", width=64, blocks=BLOCKS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data.jsonl", TEXTS)


def write_data(path: Path, texts: tuple[str, ...]) -> Path:
    path.write_text("".join(json.dumps({"target": text}) + "\n" for text in texts))
    return path


class Calls:
    """Counts the layers that GPTQ rounds; it spoils the first of the model, and is interrupted where one likes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._gptq, self.count, self.last = gptq.gptq, 0, 10**9
        monkeypatch.setattr(gptq, "gptq", self)

    def __call__(self, weight: Tensor, *arguments: Any) -> Tensor:
        if self.count >= self.last:
            raise KeyboardInterrupt
        self.count += 1
        steps = self._gptq(weight, *arguments)
        # Rounding to nearest is then the better one, which a note tells.
        return steps * 0 if torch.equal(weight, self.first) else steps

    def of(self, model: Model) -> Model:
        """Spoil this model's first layer."""
        self.first = model.module.get_submodule("blocks.0").weight.detach().clone()  # type: ignore[operator, union-attr]
        return model

    def since(self) -> int:
        """The layers since this was asked last."""
        count, self.count = self.count, 0
        return count


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def interrupt_at(block: int) -> Any:
    def progress(what: str, done: int, total: int) -> None:
        if what == "quantize blocks" and done == block:
            raise KeyboardInterrupt

    return progress


def facts(report: CompressionReport) -> dict[str, Any]:
    """The report, but for what the clock and the machine say."""
    form = report.to_dict()
    for step in form["steps"]:
        del step["seconds"], step["timing"]
    return {key: value for key, value in form.items() if key not in ("seconds", "peak_memory_bytes")}


def same(one: Model, other: Model) -> bool:
    states = one.module.state_dict(), other.module.state_dict()
    assert one.report is not None
    assert other.report is not None
    assert facts(one.report) == facts(other.report)
    return states[0].keys() == states[1].keys() and all(states[0][name].equal(states[1][name]) for name in states[0])


class Work:
    """One compression, which may be interrupted and begun again."""

    def __init__(self, source: Path, data: Path, calls: Calls, directory: Path) -> None:
        self.source, self.data, self.calls, self.directory = source, data, calls, directory

    def do(self, recipe: Any = RECIPE, samples: Any = None, resume: bool = True, **options: Any) -> Model:
        model = self.calls.of(sottovoce.load(self.source, host=HOST, dtype=options.pop("dtype", None)))
        directory = self.directory if resume else None
        sottovoce.compress(model, recipe, samples or self.data, resume=directory, host=HOST, **options)
        return model

    def interrupt(self, block: int, recipe: Any = RECIPE, samples: Any = None, **options: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.do(recipe, samples, progress=interrupt_at(block), **options)
        self.calls.since()


@pytest.fixture
def work(source: Path, data: Path, calls: Calls, tmp_path: Path) -> Work:
    return Work(source, data, calls, tmp_path / "work")


@pytest.mark.parametrize("block", [0, 1, 2, BLOCKS])
def test_interrupted_work_resumes_at_its_block(block: int, work: Work) -> None:
    whole = work.do(resume=False)
    assert work.calls.since() == BLOCKS
    work.interrupt(block)
    again = work.do()
    assert work.calls.since() == BLOCKS - block
    assert same(again, whole)
    assert again.report is not None
    (note,) = again.report.to_dict()["steps"][0]["notes"]
    assert note == "blocks.0: rounding to nearest has the smaller output error, and was kept"


def test_work_may_be_interrupted_repeatedly(work: Work) -> None:
    whole = work.do(resume=False)
    for block in (1, 2, 3):
        work.interrupt(block)
    work.calls.since()
    assert same(work.do(), whole)
    assert work.calls.since() == BLOCKS - 3


def test_completed_blocks_are_not_processed_again(work: Work) -> None:
    whole = work.do()
    times = {path: path.stat().st_mtime_ns for path in work.directory.rglob("*.safetensors")}
    assert len(times) == BLOCKS
    work.calls.since()
    assert same(work.do(), whole)
    assert work.calls.since() == 0
    assert {path: path.stat().st_mtime_ns for path in work.directory.rglob("*.safetensors")} == times


@pytest.mark.parametrize("damage", ["tensors", "facts"])
@pytest.mark.parametrize("block", range(BLOCKS))
def test_damaged_block_is_processed_again_with_a_warning(
    block: int, damage: str, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    whole = work.do()
    work.calls.since()
    kind = "safetensors" if damage == "tensors" else "json"
    paths = sorted(path for path in work.directory.rglob(f"*.{kind}") if path.name != "key.json")
    content = bytearray(paths[block].read_bytes())
    content[-3] ^= 1
    paths[block].write_bytes(content)
    assert same(work.do(), whole)
    assert work.calls.since() == 1
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.endswith(" is damaged; it is processed again")
    assert same(work.do(), whole)
    assert work.calls.since() == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": {"steps": [{"step": "quantize", "bits": 4, "method": "gptq", "gptq": {"damping": 0.05}}]}},
        {"recipe": {"steps": [{"step": "quantize", "bits": 8, "activations": "none", "method": "gptq"}]}},
        {"samples": Samples((Sample(key="a", text="abc"),))},
    ],
    ids=["options", "bits", "samples"],
)
def test_changed_work_does_not_resume(changed: dict[str, Any], work: Work) -> None:
    work.interrupt(2)
    whole = work.do(**changed, resume=False)
    work.calls.since()
    assert same(work.do(**changed), whole)
    assert work.calls.since() == BLOCKS


def test_samples_in_memory_are_distinguished_by_content(work: Work) -> None:
    one, other = (Samples((Sample(key="a", text=text, audio=np.zeros(800, np.float32)),)) for text in ("abc", "cba"))
    third = Samples((Sample(key="a", text="cba", audio=np.full(800, 0.5, np.float32)),))
    for samples, computed in ((one, BLOCKS), (one, 0), (other, BLOCKS), (third, BLOCKS), (third, 0)):
        work.do(samples=samples)
        assert work.calls.since() == computed


def test_another_model_in_the_same_directory_does_not_resume(work: Work) -> None:
    work.interrupt(2)
    make_model(work.source, seed=1, width=64, blocks=BLOCKS)
    whole = work.do(resume=False)
    work.calls.since()
    assert same(work.do(), whole)
    assert work.calls.since() == BLOCKS


def test_gate_is_enforced_after_an_interruption(work: Work) -> None:
    recipe = RECIPE | {"gate": {"min_token_agreement": 100, "max_cer_increase": 0}}
    whole = work.do(recipe, resume=False)
    work.interrupt(2, recipe)
    assert same(work.do(recipe), whole)
    assert work.calls.since() == BLOCKS - 2


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Runner]:
    yield toy_runner(monkeypatch, capfd, PLUGIN)


def test_same_command_resumes(run: Runner, work: Work, tmp_path: Path) -> None:
    work.calls.of(sottovoce.load(work.source, host=HOST))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps: [{step: quantize, bits: 4, method: gptq}]\n")
    arguments = ("compress", work.source, "-r", recipe, "--data", work.data)
    assert run(*arguments, "-o", tmp_path / "whole").code == 0
    before = {path.name for path in tmp_path.iterdir()}
    assert ".whole.unfinished" not in before
    work.calls.since()

    work.calls.last = 2
    run(*arguments, "-o", tmp_path / "small").fails(130, "interrupted; ", ".small.unfinished keeps")
    assert {path.name for path in tmp_path.iterdir()} == before | {".small.unfinished"}
    work.calls.since()

    work.calls.last = 10**9
    assert run(*arguments, "-o", tmp_path / "small").code == 0
    assert work.calls.since() == BLOCKS - 2
    assert {path.name for path in tmp_path.iterdir()} == before | {"small"}
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "small")]
    assert weights[0] == weights[1]


def test_error_before_the_first_block_leaves_nothing(run: Runner, work: Work, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    arguments = ("compress", work.source, "-r", "int4", "--data", work.data, "-o", tmp_path / "small")
    run(*arguments, "--max-memory", "1KB").fails(2, "are not enough")
    assert {path.name for path in tmp_path.iterdir()} == before


@contextmanager
def full_disk() -> Iterator[None]:
    """Files cannot grow."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_is_a_one_line_error(run: Runner, work: Work, tmp_path: Path) -> None:
    work.calls.of(sottovoce.load(work.source, host=HOST))
    arguments = ("compress", work.source, "--data", work.data, "-o", tmp_path / "small", "-r")
    with full_disk():
        run(*arguments, "int4").fails(1, ".small.unfinished", "could not be written", "File too large")
    assert not list(tmp_path.rglob("*.part"))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps: [{step: quantize}]\ngate: {max_cer: 100}\n")
    with full_disk():
        run(*arguments, recipe).fails(1, "float-backup", "could not be written", "File too large")
    assert run(*arguments, "int4").code == 0
    assert not (tmp_path / ".small.unfinished").exists()


def test_full_disk_for_activations_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    held, given = ActivationCache(0, tmp_path / "held"), torch.ones(1000)
    with full_disk(), pytest.raises(OutputError, match="activations could not be written"):
        held.hold(given, output=given)
    held.close()
    assert not list((tmp_path / "held").iterdir())
