"""Whose a model directory is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sottovoce.checkpoint.model_class import class_name, refuse_code
from sottovoce.errors import SourceError


def write(directory: Path, **files: Any) -> Path:
    for name, form in files.items():
        stem, _, suffix = name.rpartition("_")
        text = json.dumps(form) if suffix == "json" else yaml.safe_dump(form)
        (directory / f"{stem}.{suffix}").write_text(text)
    return directory


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config_json": {"architectures": ["Qwen"]}}, "Qwen"),
        ({"config_yaml": {"model": "Paraformer"}}, "Paraformer"),
        ({"config_json": {"architectures": []}, "config_yaml": {"model": "Paraformer"}}, "Paraformer"),
        ({"config_json": {"architectures": ["Qwen"]}, "config_yaml": {"model": "Paraformer"}}, "Qwen"),
        (
            {"other_yaml": {"model": "Other"}, "configuration_json": {"file_path_metas": {"config": "other.yaml"}}},
            "Other",
        ),
        ({"configuration_json": {"task": "asr"}, "config_yaml": {"model": "Paraformer"}}, "Paraformer"),
    ],
)
def test_class_name_is_read_from_the_configuration(files: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert class_name(write(tmp_path, **files)) == expected


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, r"no config\.json or config\.yaml names a model class \(it holds: nothing\)"),
        ({"other_json": {}}, r"\(it holds: other\.json\)"),
        ({"config_json": {"architectures": "Qwen"}}, "names a model class"),
        ({"config_yaml": {"model": {"name": "x"}}}, "names a model class"),
        ({"config_yaml": ["x"]}, "must be a mapping"),
        ({"configuration_json": {"file_path_metas": {"config": "../config.yaml"}}}, "leaves the model's directory"),
    ],
)
def test_directory_without_a_class_name_is_refused(files: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=problem) as caught:
        class_name(write(tmp_path, **files))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"config_json": {"architectures": ["X"], "auto_map": {"AutoModel": "x.X"}}}, "auto_map"),
        ({"config_yaml": {"model": "X", "trust_remote_code": True}}, "trust_remote_code"),
        ({"config_yaml": {"model": "X"}, "configuration_json": {"x": {"remote_code": "m.py"}}}, "x.remote_code"),
    ],
)
def test_class_name_is_read_before_code_is_refused(files: dict[str, Any], place: str, tmp_path: Path) -> None:
    write(tmp_path, **files)
    assert class_name(tmp_path) == "X"
    with pytest.raises(SourceError, match=f"{place} is refused"):
        refuse_code(tmp_path)


def test_class_name_is_read_despite_references(tmp_path: Path) -> None:
    write(tmp_path, config_yaml={"model": "X", "dataset_conf": {"sos": "${model_conf.sos}"}})
    assert class_name(tmp_path) == "X"
    refuse_code(tmp_path)


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such model directory"):
        class_name(tmp_path / "none")
