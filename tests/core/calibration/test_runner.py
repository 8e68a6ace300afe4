"""The pass that block steps share: every block once, completed blocks that are kept, resuming after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import sottovoce
from core import qwen3_moe, toy
from core.qwen3_moe import BLOCKS, EXPERTS, LAYERS, make_samples, same_tensors, stored
from sottovoce import Model, Sample, Samples, StepReport
from sottovoce.calibration import runner
from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.errors import OutputError, PluginError, SamplesError
from sottovoce.quantization.methods import gptq
from sottovoce.recipe.step import Step

# A model of plain torch, and steps that say what they are given.


class MarkedBlocks(Step):
    """Adds to every block; by block."""

    by_block = True
    label: str = ""
    by: float = 1.0


class Pause(Step):
    """Changes nothing, and not by block."""


class Marker(BlockStep):
    """Adds a number to the weights of every block, and notes what it is given."""

    def __init__(self, model: Model, step: MarkedBlocks, log: Log) -> None:
        self.name, self.model, self.step, self.log = step.label or step.name, model, step, log
        self.processed: list[str] = []

    @property
    def layers(self) -> Sequence[str]:
        return [f"blocks.{number}" for number in range(len(self.model.module.blocks))]  # type: ignore[arg-type]

    def on_start(self) -> None:
        self.log.calls.append((self.step.label, "begin"))

    def process_block(self, block: Block) -> dict[str, Any]:
        self.log.calls.append((self.step.label, block.name))
        self.log.sample_threads.append([sample_thread.sample.key for sample_thread in block.sample_threads])
        self.log.inputs.append([output.clone() for output in block.run()])
        self.log.clock.now += self.log.costs.get(self.step.label, 0)
        if (self.step.label, block.name) == self.log.stop_at:
            raise RuntimeError("stop")
        with torch.no_grad():
            block.module.weight.add_(self.step.by)  # type: ignore[operator, arg-type]
        self.processed.append(block.name)
        return {"processed": block.name}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        assert facts == {"processed": block}
        self.log.calls.append((self.step.label, f"restore {block}"))
        self.processed.append(block)

    def on_end(self) -> StepReport:
        self.log.calls.append((self.step.label, "finish"))
        return StepReport(step=self.step.to_dict(), notes=(f"{self.step.label}: {len(self.processed)} blocks",))


class Clock:
    """Time that passes when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Log:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.sample_threads: list[list[str]] = []
        self.inputs: list[list[Tensor]] = []
        self.costs: dict[str, float] = {}
        self.clock = Clock()
        self.passes = 0
        self.stop_at: tuple[str, str] | None = None

    def of(self, label: str) -> list[str]:
        return [what for who, what in self.calls if who == label]


class Marking:
    """Applies the steps of these tests."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @sottovoce.hookimpl
    def sottovoce_compress(self, step: Step, model: Model) -> Any:
        if isinstance(step, MarkedBlocks):
            return Marker(model, step, self.log)
        if isinstance(step, Pause):
            self.log.calls.append(("pause", "done"))
            return StepReport(step=step.to_dict())
        return None


KEYS = ["z", "a", "m"]
SAMPLES = Samples(tuple(Sample(key=key, text=text) for key, text in zip(KEYS, ("abc", "hg", "deed"), strict=True)))


def mark(label: str, by: float = 1.0) -> dict[str, Any]:
    return {"step": "marked_blocks", "label": label, "by": by}


PAUSE = {"step": "pause"}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log, run_blocks = Log(), runner.run_blocks

    def counted(*arguments: Any, **options: Any) -> Any:
        log.passes += 1
        return run_blocks(*arguments, **options)

    monkeypatch.setattr(runner, "run_blocks", counted)
    return log


class Toys:
    """A toy of three blocks, loaded as often as one likes."""

    def __init__(self, directory: Path, log: Log) -> None:
        self.source = toy.make_model(directory / "toy", blocks=3)
        self.host = toy.make_host(toy.ToyPlugin(inputs=("text",)), Marking(log))

    def do(self, steps: list[dict[str, Any]], samples: Samples | None = SAMPLES, **options: Any) -> Model:
        model = sottovoce.load(self.source, host=self.host)
        sottovoce.compress(model, {"steps": steps}, samples, host=self.host, **options)
        return model


@pytest.fixture
def toys(tmp_path: Path, log: Log) -> Toys:
    return Toys(tmp_path, log)


def test_adjacent_block_steps_share_one_pass(toys: Toys, log: Log) -> None:
    toys.do([mark("first"), mark("second")])
    assert log.passes == 1
    blocks = [(who, f"blocks.{number}") for number in range(3) for who in ("first", "second")]
    begin, finish = ([(who, what) for who in ("first", "second")] for what in ("begin", "finish"))
    assert log.calls == [*begin, *blocks, *finish]


def test_step_of_another_kind_separates_passes(toys: Toys, log: Log) -> None:
    model = toys.do([mark("first"), mark("second"), PAUSE, mark("third"), mark("fourth")])
    assert log.passes == 2
    assert log.calls.index(("pause", "done")) > log.calls.index(("second", "finish"))
    assert log.calls.index(("pause", "done")) < log.calls.index(("third", "begin"))
    assert model.report is not None
    names = [step["step"].get("label", "pause") for step in model.report.to_dict()["steps"]]
    assert names == ["first", "second", "pause", "third", "fourth"]


@pytest.mark.parametrize("steps", [[PAUSE, mark("only")], [mark("only"), PAUSE], [PAUSE, mark("only"), PAUSE, PAUSE]])
def test_single_block_step_has_its_own_pass(steps: list[dict[str, Any]], toys: Toys, log: Log) -> None:
    model = toys.do(steps)
    assert log.passes == 1
    assert log.of("only") == ["begin", "blocks.0", "blocks.1", "blocks.2", "finish"]
    assert model.report is not None
    assert [step["step"]["step"] for step in model.report.to_dict()["steps"]] == [step["step"] for step in steps]


def test_block_steps_get_all_samples_in_order(toys: Toys, log: Log) -> None:
    toys.do([mark("first"), mark("second")])
    assert log.sample_threads == [KEYS] * 6


def test_block_step_inputs_come_from_changed_earlier_blocks(toys: Toys, log: Log) -> None:
    toys.do([mark("first", 0.25), mark("second", 0.5)])
    model = sottovoce.load(toys.source, host=toys.host)
    for visit, given in enumerate(log.inputs):
        number = visit // 2
        found: list[Tensor] = []
        block = model.module.get_submodule(f"blocks.{number}")
        if visit % 2:
            with torch.no_grad():
                block.weight.add_(0.25)  # type: ignore[operator, arg-type]
        hook = block.register_forward_hook(lambda *call, to=found: to.append(call[2].clone()))
        with torch.inference_mode():
            for sample in SAMPLES:
                toy.forward(model, sample)
        hook.remove()
        assert all(one.equal(other) for one, other in zip(given, found, strict=True))
        if visit % 2:
            with torch.no_grad():
                block.weight.add_(0.5)  # type: ignore[operator, arg-type]


def test_block_steps_without_samples_process_all_blocks(toys: Toys, log: Log) -> None:
    model = toys.do([mark("first"), mark("second")], samples=None)
    assert log.of("first") == log.of("second") == ["begin", "blocks.0", "blocks.1", "blocks.2", "finish"]
    assert log.sample_threads == [[]] * 6
    before = sottovoce.load(toys.source, host=toys.host).module.state_dict()
    assert model.module.state_dict()["blocks.2.weight"].equal(before["blocks.2.weight"] + 1 + 1)
    assert model.module.state_dict()["head.weight"].equal(before["head.weight"])


def test_seconds_and_notes_are_reported_per_step(toys: Toys, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.costs = {"first": 2.0, "second": 0.5}
    monkeypatch.setattr(runner, "time", SimpleNamespace(perf_counter=log.clock.perf_counter))
    model = toys.do([mark("first"), mark("second")])
    assert model.report is not None
    first, second = model.report.to_dict()["steps"]
    assert (first["seconds"], second["seconds"]) == (6.0, 1.5)
    assert list(first["notes"]) == ["first: 3 blocks"]
    assert list(second["notes"]) == ["second: 3 blocks"]
    # Running the blocks between the steps is reported once, with the last.
    assert "running blocks" not in first.get("timing", {})
    assert second["timing"]["running blocks"] == 0


def test_time_of_running_blocks_is_reported_once(toys: Toys, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "time", SimpleNamespace(perf_counter=log.clock.perf_counter))

    def slow(model: Model, sample: Sample) -> Tensor:
        log.clock.now += 1.25
        return toy.forward(model, sample)

    host = toy.make_host(toy.ToyPlugin(inputs=("text",), forward=slow), Marking(log))
    model = sottovoce.load(toys.source, host=host)
    report = sottovoce.compress(model, {"steps": [mark("first"), mark("second")]}, SAMPLES, host=host).to_dict()
    first, second = report["steps"]
    assert first["seconds"] == 0
    assert second["seconds"] == second["timing"]["running blocks"] == 3 * 1.25


def test_notes_on_samples_come_first(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "check_samples", lambda samples, architecture: ("they were resampled",))
    model = toys.do([mark("first"), mark("second")])
    assert model.report is not None
    first, second = model.report.to_dict()["steps"]
    assert list(first["notes"]) == ["they were resampled", "first: 3 blocks"]
    assert list(second["notes"]) == ["second: 3 blocks"]


def test_unsuitable_samples_are_refused_before_any_step(toys: Toys, log: Log) -> None:
    with pytest.raises(SamplesError, match="1 sample has no text, such as 'dumb'"):
        toys.do([mark("first")], Samples((*SAMPLES, Sample(key="dumb"))))
    assert log.calls == []


def test_progress_reports_completed_blocks(toys: Toys) -> None:
    calls: list[tuple[str, int, int]] = []
    toys.do([mark("first"), mark("second")], progress=lambda *what: calls.append(what))
    blocks = [(done, total) for what, done, total in calls if what == "first and second blocks"]
    assert blocks[0] == (0, 3)
    assert blocks[-1] == (3, 3)
    assert blocks == sorted(blocks)


def test_plugin_result_of_the_wrong_type_is_an_error(toys: Toys, log: Log) -> None:
    class Wrong:
        @sottovoce.hookimpl(tryfirst=True)
        def sottovoce_compress(self, step: Step) -> Any:
            return StepReport(step=step.to_dict()) if getattr(step, "label", "") == "wrong" else None

    toys.host.register(Wrong(), "wrong")
    with pytest.raises(PluginError, match="'marked_blocks' promises a BlockStep, .* but a plugin gave StepReport"):
        toys.do([mark("first"), mark("wrong")])


def test_block_step_protocol_accepts_a_complete_step(toys: Toys, log: Log) -> None:
    model = sottovoce.load(toys.source, host=toys.host)
    assert isinstance(Marker(model, MarkedBlocks(), log), BlockStep)
    assert not isinstance(StepReport(step={}), BlockStep)


class TestInterruption:
    """Two steps in one pass through the toy's three blocks."""

    STEPS = (mark("first", 0.5), mark("second", 0.25))

    @pytest.mark.parametrize("who", ["first", "second"])
    @pytest.mark.parametrize("number", range(3))
    @pytest.mark.parametrize("samples", [SAMPLES, None], ids=["samples", "none"])
    def test_interrupted_work_resumes_after_the_last_completed_block(
        self, samples: Samples | None, number: int, who: str, toys: Toys, log: Log, tmp_path: Path
    ) -> None:
        whole = toys.do([*self.STEPS], samples)
        log.stop_at = (who, f"blocks.{number}")
        with pytest.raises(RuntimeError, match="stop"):
            toys.do([*self.STEPS], samples, resume=tmp_path / "work")
        log.stop_at = None
        log.calls.clear()
        again = toys.do([*self.STEPS], samples, resume=tmp_path / "work")
        for label in ("first", "second"):
            restored = [f"restore blocks.{block}" for block in range(number)]
            processed = [f"blocks.{block}" for block in range(number, 3)]
            assert log.of(label) == ["begin", *restored, *processed, "finish"]
        assert same_tensors(again.module.state_dict(), whole.module.state_dict())
        assert again.report is not None
        notes = [list(step["notes"]) for step in again.report.to_dict()["steps"]]
        assert notes == [["first: 3 blocks"], ["second: 3 blocks"]]

    def test_two_passes_of_a_recipe_resume_separately(self, toys: Toys, log: Log, tmp_path: Path) -> None:
        steps = [mark("first"), PAUSE, mark("second")]
        whole = toys.do(steps)
        log.stop_at = ("second", "blocks.1")
        with pytest.raises(RuntimeError, match="stop"):
            toys.do(steps, resume=tmp_path / "work")
        assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["step-0", "step-2"]
        log.stop_at = None
        log.calls.clear()
        again = toys.do(steps, resume=tmp_path / "work")
        assert [what for what in log.of("first") if what.startswith("blocks")] == []
        assert [what for what in log.of("second") if what.startswith("blocks")] == ["blocks.1", "blocks.2"]
        assert same_tensors(again.module.state_dict(), whole.module.state_dict())

    @pytest.mark.parametrize("size", [0, 9, -1])
    def test_truncated_block_file_is_processed_again(self, size: int, toys: Toys, log: Log, tmp_path: Path) -> None:
        whole = toys.do([*self.STEPS], resume=tmp_path / "work")
        files = sorted((tmp_path / "work" / "step-0").glob("*.safetensors"))
        assert len(files) == 3
        files[1].write_bytes(files[1].read_bytes()[:size])
        log.calls.clear()
        again = toys.do([*self.STEPS], resume=tmp_path / "work")
        assert sum(what.startswith("restore") for what in log.of("first")) == 2
        assert sum(what.startswith("blocks") for what in log.of("first")) == 1
        assert same_tensors(again.module.state_dict(), whole.module.state_dict())

    @pytest.mark.parametrize("facts", [None, "", '{"steps": [{"processed": "blo'])
    def test_block_with_truncated_facts_is_processed_again(
        self, facts: str | None, toys: Toys, log: Log, tmp_path: Path
    ) -> None:
        whole = toys.do([*self.STEPS], resume=tmp_path / "work")
        path = min((tmp_path / "work" / "step-0").glob("*.json"))
        if facts is None:
            path.unlink()
        else:
            path.write_text(facts)
        log.calls.clear()
        again = toys.do([*self.STEPS], resume=tmp_path / "work")
        assert sum(what.startswith("blocks") for what in log.of("first")) == 1
        assert same_tensors(again.module.state_dict(), whole.module.state_dict())

    @pytest.mark.parametrize("changed", ["recipe", "samples", "model"])
    def test_changed_work_does_not_resume(self, changed: str, toys: Toys, log: Log, tmp_path: Path) -> None:
        toys.do([*self.STEPS], resume=tmp_path / "work")
        steps, samples = [*self.STEPS], SAMPLES
        if changed == "recipe":
            steps = [self.STEPS[0], mark("second", 7)]
        elif changed == "samples":
            samples = Samples(tuple(SAMPLES)[:2])
        else:
            toy.make_model(toys.source, seed=5, blocks=3)
        log.calls.clear()
        again = toys.do(steps, samples, resume=tmp_path / "work")
        assert log.of("first") == ["begin", "blocks.0", "blocks.1", "blocks.2", "finish"]
        assert same_tensors(again.module.state_dict(), toys.do(steps, samples).module.state_dict())


# The real class, with core's own steps.

PRUNE = {"step": "prune_experts", "keep": 5}
FOUR_BITS = {"step": "quantize", "bits": 4, "method": "gptq", "weight_range": "mse"}
CHAINS = {"quantize": [FOUR_BITS], "both": [PRUNE, FOUR_BITS], "prune": [PRUNE]}


class Rounds:
    """Counts what GPTQ rounds, experts or not; is interrupted where one likes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.last = 0, 10**9
        monkeypatch.setattr(gptq, "gptq", self._counted(gptq.gptq))

    def _counted(self, gptq: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: Any) -> Tensor:
            if self.count >= self.last:
                raise KeyboardInterrupt
            self.count += 1
            return gptq(*arguments)

        return call

    def since(self) -> int:
        count, self.count = self.count, 0
        return count


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    return Rounds(monkeypatch)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_moe.make_model(tmp_path_factory.mktemp("source") / "mixture", max_shard_size="100KB")


TEXTS = make_samples(5, 40)


def compress(source: Path, steps: list[dict[str, Any]], *, stream: bool, **options: Any) -> Model:
    model = sottovoce.load(source, host=qwen3_moe.HOST, stream=stream)
    sottovoce.compress(model, {"steps": steps}, TEXTS, host=qwen3_moe.HOST, **options)
    return model


def saved(model: Model, directory: Path) -> dict[str, Tensor]:
    return stored(sottovoce.save(model, directory, host=qwen3_moe.HOST, overwrite=True))


def step_reports(model: Model) -> list[dict[str, Any]]:
    assert model.report is not None
    steps = model.report.to_dict()["steps"]
    return [{**step, "seconds": 0, "timing": 0} for step in steps]


def interrupt_at(block: int) -> Any:
    def progress(what: str, done: int, total: int) -> None:
        if what.endswith(" blocks") and done == block:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
@pytest.mark.parametrize(  # each step alone proves little beyond both
    "chain", [pytest.param(name, marks=() if name == "both" else pytest.mark.slow) for name in CHAINS]
)
@pytest.mark.parametrize("block", [1, LAYERS])
def test_interrupted_mixture_resumes_to_the_same_result(
    block: int, chain: str, stream: bool, source: Path, rounds: Rounds, tmp_path: Path
) -> None:
    steps = CHAINS[chain]
    whole = compress(source, steps, stream=stream)
    whole_rounds = rounds.since()
    assert (whole_rounds > LAYERS * 4) == (chain != "prune")
    with pytest.raises(KeyboardInterrupt):
        compress(source, steps, stream=stream, resume=tmp_path / "work", progress=interrupt_at(block))
    done = rounds.since()
    assert len(list((tmp_path / "work" / "step-0").glob("*.safetensors"))) == block
    again = compress(source, steps, stream=stream, resume=tmp_path / "work")
    assert rounds.since() == whole_rounds - done
    assert step_reports(again) == step_reports(whole)
    assert same_tensors(saved(again, tmp_path / "again"), saved(whole, tmp_path / "whole"))
    assert again.native.config.num_experts == (EXPERTS if chain == "quantize" else 5)


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_interruption_within_a_block_repeats_the_block(
    stream: bool, source: Path, rounds: Rounds, tmp_path: Path
) -> None:
    whole = compress(source, CHAINS["both"], stream=stream)
    every = rounds.since()
    rounds.last = every // 2
    with pytest.raises(KeyboardInterrupt):
        compress(source, CHAINS["both"], stream=stream, resume=tmp_path / "work")
    rounds.since()
    rounds.last = 10**9
    completed = len(list((tmp_path / "work" / "step-0").glob("*.safetensors")))
    assert completed == 1
    again = compress(source, CHAINS["both"], stream=stream, resume=tmp_path / "work")
    assert every // 2 < rounds.since() < every
    assert step_reports(again) == step_reports(whole)
    assert same_tensors(saved(again, tmp_path / "again"), saved(whole, tmp_path / "whole"))


def test_completed_blocks_resume_in_memory_and_streamed(source: Path, rounds: Rounds, tmp_path: Path) -> None:
    whole = compress(source, CHAINS["both"], stream=False, resume=tmp_path / "work")
    assert rounds.since()
    again = compress(source, CHAINS["both"], stream=True, resume=tmp_path / "work")
    assert rounds.since() == 0
    assert same_tensors(saved(again, tmp_path / "again"), saved(whole, tmp_path / "whole"))


def test_truncated_streamed_block_is_processed_again(source: Path, rounds: Rounds, tmp_path: Path) -> None:
    whole = saved(compress(source, CHAINS["both"], stream=True, resume=tmp_path / "work"), tmp_path / "whole")
    every = rounds.since()
    path = sorted((tmp_path / "work" / "step-0").glob("*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:-20])
    again = saved(compress(source, CHAINS["both"], stream=True, resume=tmp_path / "work"), tmp_path / "again")
    assert 0 < rounds.since() < every
    assert same_tensors(again, whole)


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
@pytest.mark.parametrize("call", [1, 2])
def test_full_disk_keeps_completed_blocks(
    call: int, stream: bool, source: Path, rounds: Rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = saved(compress(source, CHAINS["both"], stream=stream), tmp_path / "whole")
    every = rounds.since()
    written = full_after(call, monkeypatch, "sottovoce.checkpoint.block_file.write_file")
    with pytest.raises(OutputError, match=r"step-0: could not be written \(.*No space left on device\)") as caught:
        compress(source, CHAINS["both"], stream=stream, resume=tmp_path / "work")
    assert "\n" not in str(caught.value)
    assert len(written) == call
    assert not list(tmp_path.rglob("*.part"))
    assert len(list((tmp_path / "work" / "step-0").glob("*.safetensors"))) == call
    monkeypatch.undo()
    rounds = Rounds(monkeypatch)
    again = saved(compress(source, CHAINS["both"], stream=stream, resume=tmp_path / "work"), tmp_path / "again")
    assert 0 < rounds.since() < every
    assert same_tensors(again, whole)


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_full_disk_while_saving_leaves_nothing(
    stream: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = compress(source, CHAINS["prune"], stream=stream)
    full_after(0, monkeypatch, "sottovoce.checkpoint.shard_writer.write_file")
    with pytest.raises(OutputError, match="nothing was left behind.*No space left on device"):
        sottovoce.save(model, tmp_path / "out", host=qwen3_moe.HOST)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert json.loads((sottovoce.save(model, tmp_path / "out", host=qwen3_moe.HOST) / "compression.json").read_text())


def full_after(calls: int, monkeypatch: pytest.MonkeyPatch, where: str) -> list[Path]:
    """A disk that takes so many files and no more; the file that it does not take is begun."""
    import errno

    from sottovoce.checkpoint.shard_writer import write_file

    written: list[Path] = []

    def write(tensors: Any, path: Path, *arguments: Any) -> None:
        if len(written) == calls:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write_file(tensors, path, *arguments)

    monkeypatch.setattr(where, write)
    return written


def test_changed_work_on_a_mixture_does_not_resume(source: Path, rounds: Rounds, tmp_path: Path) -> None:
    compress(source, CHAINS["quantize"], stream=True, resume=tmp_path / "work")
    assert rounds.since()
    other = [{**FOUR_BITS, "gptq": {"damping": 0.05}}]
    whole = saved(compress(source, other, stream=True), tmp_path / "whole")
    every = rounds.since()
    again = saved(compress(source, other, stream=True, resume=tmp_path / "work"), tmp_path / "again")
    assert rounds.since() == every
    assert same_tensors(again, whole)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["step-0"]
    assert len(list((tmp_path / "work" / "step-0").glob("*.safetensors"))) == len(BLOCKS)
