"""No verb runs what lies in the directory that it is started in, which may be a model's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sottovoce.samples import read_samples
from sottovoce.system.interpreter import python_command, python_environment

EXAMPLES = Path(__file__).parents[3] / "examples"
PARAFORMER, ALIGNER = EXAMPLES / "models" / "tiny-paraformer", EXAMPLES / "models" / "tiny-aligner"
SAMPLES = EXAMPLES / "data" / "mandarin-commands" / "test.jsonl"
NAMES = ("soundfile", "torch", "numpy", "funasr", "transformers", "random", "json", "pickle", "runpy", "yaml", "av")
CONSOLE = "import sys; from sottovoce.cli import main; main()"
"""What the installed script does; its own folder, not the working directory, stands first on ``sys.path``."""


def plant(directory: Path, names: tuple[str, ...]) -> Path:
    """Put modules into a directory that leave a mark when one of them runs."""
    mark = directory.parent / "ran"
    for name in names:
        (directory / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r}); raise SystemExit(99)\n")
    return mark


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """One utterance."""
    sample = read_samples(SAMPLES)[0]
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"source": str(sample.audio), "target": sample.text}) + "\n", encoding="utf-8")
    return path


def run(directory: Path, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


VERBS = {
    "inspect": ["inspect", ".", "--recipe", "int8"],
    "compress": ["compress", ".", "--recipe", "int8", "--output", "../small"],
    "evaluate": ["evaluate", ".", "--data", "../one.jsonl"],
    "export": ["export", ".", "--format", "onnx", "--output", "../onnx"],
    "demo": ["demo", "--output", "../demo"],
}


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=() if verb == "evaluate" else pytest.mark.slow) for verb in VERBS]
)
def test_command_in_a_models_directory_imports_nothing_there(verb: str, samples: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(PARAFORMER, model)
    (tmp_path / "demo.yaml").write_text("{model: model, samples: one.jsonl, recipe: int8}")
    mark = plant(model, ("sottovoce", "sottovoce_hub", *NAMES))
    environment = os.environ | {"SOTTOVOCE_EXAMPLES": str(tmp_path)}
    done = run(model, [sys.executable, "-P", "-c", CONSOLE, *VERBS[verb]], environment)
    assert not mark.exists(), mark.read_text()
    assert done.returncode == 0, done.stderr


def test_python_m_imports_only_our_name_there(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(PARAFORMER, model)
    mark = plant(model, tuple(name for name in (*NAMES, "click", "pluggy") if name not in ("runpy",)))
    done = run(model, [sys.executable, "-m", "sottovoce", "inspect", "."], dict(os.environ))
    assert not mark.exists(), mark.read_text()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("entries", ["", ".", "./", f".{os.pathsep}{os.pathsep}"])
def test_working_directory_entry_of_pythonpath_is_removed(
    entries: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "of_the_user.py").write_text("")
    mark = plant(tmp_path, ("planted",))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((entries, str(kept), "")))
    done = run(tmp_path, python_command("-c", "import of_the_user, planted"), python_environment())
    assert "No module named 'planted'" in done.stderr
    assert not mark.exists()


def test_child_of_a_child_is_safe(tmp_path: Path) -> None:
    mark = plant(tmp_path, ("planted",))
    code = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', 'import planted']).returncode)"
    done = run(tmp_path, python_command("-c", code), python_environment())
    assert done.returncode == 1
    assert not mark.exists()
