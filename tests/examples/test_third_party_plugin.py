"""The two files of ``examples/third_party_plugin``, installed from their own directory, pass the kit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forked import run_module

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "third_party_plugin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which the plugin is installed."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(PLUGIN)], check=True)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(target), str(ROOT / "tests")])}


def test_is_two_files() -> None:
    files = [path for path in PLUGIN.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sorted(path.name for path in files) == ["pyproject.toml", "sottovoce_wav2vec2.py"]


def test_is_found_through_its_entry_point(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "sottovoce", "plugins", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    plugin = {"name": "wav2vec2", "distribution": "sottovoce-wav2vec2", "version": "0.1.0", "error": None}
    assert plugin in found["plugins"]
    assert found["architectures"]["wav2vec2-ctc"] == ["Wav2Vec2ForCTC"]


def test_passes_the_conformance_kit(environment: dict[str, str]) -> None:
    kit = Path(__file__).with_name("third_party_conformance.py")
    options = ("-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml")
    done = run_module("pytest", *options, kit, environment=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
