"""Distributions with entry points on ``sys.path``, as pip would put them there."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a plugin that is one module of this code."""
    (folder / f"{name}.py").write_text(code)
    _describe(folder, name, "1.0", {name: name})
    monkeypatch.syspath_prepend(str(folder))


def install_project(project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the packages of a directory with a ``pyproject.toml`` where they lie; ``folder`` gets the metadata."""
    facts = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder.mkdir(exist_ok=True)
    _describe(folder, facts["name"], facts["version"], facts["entry-points"]["sottovoce"])
    for path in (folder, project):
        monkeypatch.syspath_prepend(str(path))


def _describe(folder: Path, name: str, version: str, plugins: Mapping[str, str]) -> None:
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = ["[sottovoce]", *(f"{plugin} = {module}" for plugin, module in plugins.items())]
    (information / "entry_points.txt").write_text("\n".join([*lines, ""]))
