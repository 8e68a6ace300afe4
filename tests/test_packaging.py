"""Four distributions, each a wheel of its own, found through their entry points."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {
    "sottovoce": ROOT,
    "sottovoce_paraformer": ROOT / "plugins" / "paraformer",
    "sottovoce_forced_aligner": ROOT / "plugins" / "forced-aligner",
    "sottovoce_omni_moe": ROOT / "plugins" / "omni-moe",
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, *map(str, DISTRIBUTIONS.values())], check=True)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


def test_each_builds(wheels: dict[str, Path]) -> None:
    assert set(wheels) == set(DISTRIBUTIONS)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_its_packages_and_no_more(name: str, wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels[name]).namelist()
    folders = {entry.partition("/")[0] for entry in names if ".dist-info/" not in entry}
    assert folders == ({"sottovoce", "sottovoce_hub"} if name == "sottovoce" else {name})
    assert all(f"{folder}/py.typed" in names for folder in folders)


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name != "sottovoce"])
def test_a_plugin_has_an_entry_point(name: str, wheels: dict[str, Path]) -> None:
    archive = zipfile.ZipFile(wheels[name])
    text = next(archive.read(entry).decode() for entry in archive.namelist() if entry.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert dict(parser["sottovoce"]) == {name.removeprefix("sottovoce_").replace("_", "-"): name}


def test_all_have_one_version(wheels: dict[str, Path]) -> None:
    assert len({path.name.split("-")[1] for path in wheels.values()}) == 1


def test_the_root_alone_says_which_plugin_to_install(wheels: dict[str, Path], tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.yaml").write_text("model: SeacoParaformer\n")
    target = tmp_path / "site"
    with zipfile.ZipFile(wheels["sottovoce"]) as archive:
        archive.extractall(target)
    environment = os.environ | {"PYTHONPATH": str(target), "SOTTOVOCE_PLUGINS": ""}
    command = [sys.executable, "-m", "sottovoce", "inspect", str(model)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install . ./plugins/paraformer in a clone of Sottovoce's repository" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
