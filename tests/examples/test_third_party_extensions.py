"""A third party's step, method, metric and format, one file each, are used and described as core's own are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "third_party_extensions"
MODEL = ROOT / "examples" / "models" / "tiny-paraformer"
SAMPLES = ROOT / "tests" / "calibration.jsonl"
RECIPE = {
    "steps": [
        {"step": "prune_small_weights", "share": 0.2},
        {"step": "quantize", "method": "stochastic", "stochastic": {"seed": 3}},
    ],
    "gate": {"max_empty_transcripts": 10},
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which the plugin is installed."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(PLUGIN)], check=True)
    paths = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def run(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sottovoce", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def result(environment: dict[str, str], *arguments: object) -> Any:
    done = run(environment, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def compressed(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extras")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    output = folder / "out"
    result(environment, "compress", MODEL, "-r", folder / "recipe.yaml", "-o", output, "--gate-data", SAMPLES)
    return output


@pytest.fixture(scope="module")
def report(compressed: Path) -> Any:
    return json.loads((compressed / "compression.json").read_text(encoding="utf-8"))


def test_plugins_list_the_files_of_the_distribution(environment: dict[str, str]) -> None:
    listed = result(environment, "plugins")
    names = {row["name"] for row in listed["plugins"] if row["distribution"] == "sottovoce-extras"}
    assert names == {"extras-step", "extras-method", "extras-metric", "extras-format"}
    assert listed["formats"]["npz"] == "NumPy archive of the tensors"


def test_step_changes_the_share_it_reports(report: Any) -> None:
    step = report["steps"][0]
    layers = sum(target["parameters"] for target in report["steps"][1]["targets"])
    assert step["step"] == {"step": "prune_small_weights", "share": 0.2}
    assert step["coverage"]["compressed_parameters"] == pytest.approx(0.2 * layers, rel=0.001)
    assert step["summary"]["en"] == "Set the smallest 20% of the weights of 42 layers to zero."


def test_method_is_named_in_the_report_with_its_options(report: Any) -> None:
    step = report["steps"][1]
    assert step["step"]["stochastic"] == {"seed": 3}
    assert "stochastic rounding" in step["summary"]["en"]
    assert "随机舍入" in step["summary"]["zh"]


def test_metric_is_measured_for_the_gate_with_its_label(report: Any) -> None:
    assert report["gate"]["found"] == {"max_empty_transcripts": 0.0}
    assert report["gate"]["labels"]["empty_transcripts"] == {"en": "empty transcripts", "zh": "空转写"}


def test_format_is_listed_written_and_checked(environment: dict[str, str], compressed: Path) -> None:
    output = compressed.with_name("npz")
    assert "tensors.npz" in result(environment, "export", compressed, "-f", "npz", "-o", output)["files"]
    with numpy.load(output / "tensors.npz") as archive:
        assert any(value.dtype == numpy.int8 for value in archive.values())
    done = run(environment, "export", MODEL, "-f", "tape", "-o", compressed.with_name("tape"))
    assert done.returncode == 2
    assert "npz" in done.stderr


def test_cards_describe_all_of_it_where_the_plugin_is_not_installed(compressed: Path) -> None:
    card = compressed.with_name("card")
    result(dict(os.environ), "push", compressed, "you/extras", "--dry-run", "--card", card)
    english = (card / "README.md").read_text(encoding="utf-8")
    chinese = (card / "README_zh.md").read_text(encoding="utf-8")
    assert "Set the smallest 20% of the weights of 42 layers to zero." in english
    assert "magnitude-pruning" in english
    assert "empty transcripts" in english
    assert "将 42 个层中最小的 20% 权重置零。" in chinese
    assert "随机舍入" in chinese
    assert "空转写" in chinese


@pytest.mark.slow
def test_evaluate_shows_the_metric(environment: dict[str, str], compressed: Path) -> None:
    metrics = result(environment, "evaluate", compressed, "--data", SAMPLES)["metrics"]
    assert metrics["empty_transcripts"]["value"] == 0.0
    assert metrics["empty_transcripts"]["unit"] == "%"
