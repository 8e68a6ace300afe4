"""The demonstration: what was heard differently, memory, a large model's speed, a page, and what to do next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from sottovoce.entrypoints import demo, demo_peer, demo_speed, paired_timing
from sottovoce.entrypoints.demo_peer import Peer
from sottovoce.entrypoints.demo_speed import Speed
from sottovoce.errors import UsageError
from sottovoce.samples import read_samples

ROOT = Path(__file__).parents[3]
MODEL, SAMPLES = ROOT / "examples/models/tiny-paraformer", ROOT / "tests/calibration.jsonl"
COPY = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2])\n"
PEER = {"label": "Theirs", "script": "peer.py", "modules": ["yaml"], "engines": ["funasr"]}
WRITER = "import shutil, sys; import beside; shutil.copytree(beside.MODEL, sys.argv[1])\n"

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a short demonstration, whose large model is a copy of the small one."""
    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "beside.py").write_text(f"MODEL = {str(MODEL)!r}\n", encoding="utf-8")
    (folder / "write.py").write_text(WRITER, encoding="utf-8")
    (folder / "peer.py").write_text(COPY, encoding="utf-8")
    settings = {
        "model": str(MODEL),
        "samples": str(SAMPLES),
        "recipe": "int8",
        "large": {"label": "A copy", "script": "write.py", "seconds": 1, "peer": PEER},
    }
    (folder / "demo.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.setenv(demo.EXAMPLES_VARIABLE, str(folder))
    monkeypatch.setattr(demo_speed, "_WATCHED", 0.0)
    return folder


def others(monkeypatch: pytest.MonkeyPatch, cores: float) -> None:
    monkeypatch.setattr(paired_timing.OtherWork, "cores", lambda self: cores)


@contextlib.contextmanager
def together(prepare: Any, *arguments: Any) -> Iterator[Any]:
    """Prepare in this process: each of its own would import the libraries again."""
    try:
        prepared = prepare(*arguments)
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    yield prepared


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["together", "apart"])
def test_whole_demonstration_measures_and_says_what_to_do_next(
    processes: bool, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others(monkeypatch, 0.0)
    if not processes:
        monkeypatch.setattr(paired_timing, "isolated", together)
    notes: list[str] = []
    shown = demo.run(tmp_path / "small", notes.append, lambda *_: None, html=True)
    assert isinstance(shown.speed, Speed), shown.speed
    assert shown.speed.after_bytes < 0.4 * shown.speed.before_bytes
    assert shown.speed.lines()[0].startswith("A copy (real shapes, random weights): 13.2 MB -> ")
    assert isinstance(shown.speed.peer, Peer), shown.speed.peer
    assert shown.speed.peer.line().startswith("Theirs by funasr, 13.2 MB: ")
    assert shown.page == tmp_path / "small.html"
    assert "<html" in shown.page.read_text(encoding="utf-8")
    assert shown.library_bytes is not None
    assert shown.library_bytes > 50_000_000
    assert [command.split()[1] for command in shown.next_commands] == ["transcribe", "serve", "push"]
    form = shown.to_dict()
    assert form["speed"]["ratio"]["rounds"] == 5
    assert form["speed"]["peer"]["ratio"]["rounds"] == 5
    assert form["evaluation"]["samples"]["count"] == 6


def test_times_of_a_busy_machine_are_said_to_be_worthless_and_are_not_in_the_json(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others(monkeypatch, 99.0)
    monkeypatch.setattr(paired_timing, "isolated", together)
    shown = demo.run(tmp_path / "small", lambda note: None, lambda *_: None, quick=True)
    console = Console(width=200, record=True)
    console.print(shown.table())
    assert "the times above say nothing: the machine is busy" in console.export_text()
    metrics = shown.to_dict()["evaluation"]["metrics"]
    assert "cer" in metrics
    assert not {"latency_ms", "rtf"} & metrics.keys()


def test_busy_machine_leaves_the_large_model_out_in_a_sentence(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others(monkeypatch, 99.0)
    settings = yaml.safe_load((examples / "demo.yaml").read_text(encoding="utf-8"))["large"]
    reason = demo_speed.measure(settings, examples, None, "int8", print)  # type: ignore[arg-type]
    assert isinstance(reason, str)
    assert reason.startswith("A copy is left out: the machine is busy: other processes use 99.0 of its ")


def test_script_that_fails_is_a_sentence(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others(monkeypatch, 0.0)
    (examples / "write.py").write_text("raise SystemExit('no room')", encoding="utf-8")
    settings = yaml.safe_load((examples / "demo.yaml").read_text(encoding="utf-8"))["large"]
    assert demo_speed.measure(settings, examples, None, "int8", print) == "A copy is left out: no room"  # type: ignore[arg-type]


def test_script_that_is_not_there_is_a_sentence(examples: Path) -> None:
    settings = {"label": "A copy", "script": "../missing.py", "seconds": 1}
    reason = demo_speed.measure(settings, examples, None, "int8", print)  # type: ignore[arg-type]
    assert reason == "A copy is left out: missing.py is not there"


def test_peer_that_is_not_installed_says_what_to_install(examples: Path, tmp_path: Path) -> None:
    settings = {**PEER, "modules": ["yaml", "no_such_library"]}
    assert demo_peer.write(settings, examples, MODEL, tmp_path / "peer") == (
        "Theirs is left out: pip install no_such_library"
    )


def test_peer_whose_script_fails_or_writes_nothing_is_a_sentence(examples: Path, tmp_path: Path) -> None:
    (examples / "peer.py").write_text("raise SystemExit('no such operator')", encoding="utf-8")
    assert demo_peer.write(PEER, examples, MODEL, tmp_path / "peer") == "Theirs is left out: no such operator"
    (examples / "peer.py").write_text("", encoding="utf-8")
    assert demo_peer.write(PEER, examples, MODEL, tmp_path / "peer") == (
        "Theirs is left out: funasr does not run what peer.py wrote"
    )


def test_peer_without_memory_is_a_sentence(examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_peer, "NEEDED", 10**18)
    reason = demo_peer.write(PEER, examples, MODEL, tmp_path / "peer")
    assert reason == "Theirs is left out: writing it takes 1000000000.0 GB of memory, and less is free"


def test_peer_that_does_not_load_is_a_sentence_beside_the_others_times(
    examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others(monkeypatch, 0.0)
    monkeypatch.setattr(paired_timing, "isolated", together)
    damage = "pathlib.Path(sys.argv[2], 'model.safetensors').write_bytes(b'damaged')\n"
    (examples / "peer.py").write_text(f"{COPY}import pathlib\n{damage}", encoding="utf-8")
    settings = yaml.safe_load((examples / "demo.yaml").read_text(encoding="utf-8"))["large"]
    speed = demo_speed.measure(settings, examples, read_samples(SAMPLES)[0], "int8", print)
    assert isinstance(speed, Speed)
    assert speed.ratio["rounds"] == 5
    assert isinstance(speed.peer, str)
    assert speed.peer.startswith("Theirs is left out: funasr: ")


def test_engine_that_is_not_known_is_named(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no engine 'none-such', which demo.yaml names; known: "):
        demo_peer.write({**PEER, "engines": ["none-such"]}, examples, MODEL, tmp_path / "peer")


def test_difference_is_in_brackets() -> None:
    assert demo._marked("打开灯", "打关灯") == "打[关]灯"
    assert demo._marked("打开灯", "打灯") == "打[-]灯"
    assert demo._marked("打开灯", "打开灯") == "打开灯"
