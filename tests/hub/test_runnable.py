"""What runs is known by its name and by what it holds, whatever it is called."""

from __future__ import annotations

import gzip
import io
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.published import make_small
from hub.running import HUBS, run
from hub.test_files import add
from sottovoce.errors import PublishError, SourceError
from sottovoce_hub.files import read_contents
from sottovoce_hub.runnable import runs

MODELS = Path(__file__).parents[2] / "examples" / "models"


class Evil:
    def __reduce__(self):
        return print, ("run",)


def packed(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("__main__.py", "print(1)")
    else:
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.add(__file__, "x")
    return out.getvalue()


CONTENTS = {
    **{f"pickle {protocol}": pickle.dumps(Evil(), protocol) for protocol in range(6)},
    "zip": packed("zip"),
    "tar": packed("tar"),
    "gzip": gzip.compress(b"x"),
    "elf": b"\x7fELF\x02\x01\x01",
    "windows": b"MZ\x90\0\x03\0\0\0" + bytes(100),
    "mac": b"\xcf\xfa\xed\xfe\x07\0\0\x01",
    "java": b"\xca\xfe\xba\xbe\0\0\0\x34",
    "wasm": b"\0asm\1\0\0\0",
    "script": b"#!/bin/sh\nrm -rf ~\n",
    "script with a mark": b"\xef\xbb\xbf#! /usr/bin/env python\n",
    "numpy": b"\x93NUMPY\1\0",
}
NAMES = (
    "run.sh",
    "x.exe",
    "w.pkl",
    "m.ckpt",
    "m.joblib",
    "m.pkl.gz",
    "a.pyz",
    "a.dll",
    "a.dylib",
    "a.so.1.2",
    "a.bat",
    "a.js",
    "a.ipynb",
    "a.tar",
    "a.tar.gz",
    "A.PY",
    "a.py.",
    "a.whl",
    "sub/b.Zip",
    "a.npz",
    "a.ps1",
    "a.jar",
)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "a.png", "NOTICE", "model.onnx"])
def test_what_runs_is_known_by_what_it_holds(content: str, name: str) -> None:
    assert runs(name, CONTENTS[content]) is not None


@pytest.mark.parametrize("name", [*NAMES, "w.pt", "w.pth", "w.bin"])
def test_what_runs_is_known_by_its_name(name: str) -> None:
    assert runs(name, b"anything") is not None


@pytest.mark.parametrize("name", ["w.pt", "w.bin"])
def test_pickled_weights_are_data_where_they_are_fetched_and_programs_are_not(name: str) -> None:
    assert runs(name, CONTENTS["zip"], weights=True) is None
    assert runs(name, CONTENTS["pickle 2"], weights=True) is None
    assert runs(name, CONTENTS["elf"], weights=True) == "a program"
    assert runs("w.json", CONTENTS["pickle 2"], weights=True) == "a pickle"


@given(st.text(max_size=300))
def test_a_text_that_is_no_script_is_data(text: str) -> None:
    assert text.lstrip("\ufeff").startswith("#!") or runs("notes.txt", text.encode("utf-8", "ignore")) is None


@pytest.mark.parametrize(
    "text",
    [
        "MZ is a word",
        "config\nother\nwords.",
        "(lp0\n.",
        "BZh9",
        "cos\nsystem\n",
        "",
        "tiny-data.txt b\nR.",
        "cat\ndog\n.",
    ],
)
def test_words_by_which_programs_begin_are_data(text: str) -> None:
    assert runs("vocab.txt", text.encode()) is None


def test_the_bundled_models_are_data() -> None:
    for path in MODELS.rglob("*"):
        assert not path.is_file() or runs(path.name, path.read_bytes()[:1_000_000]) is None, path


@pytest.mark.parametrize("content", ["pickle 4", "elf", "zip"])
def test_what_runs_under_another_name_is_not_published(tmp_path: Path, content: str) -> None:
    add(small := make_small(tmp_path / "small"), "notes.json", CONTENTS[content])
    with pytest.raises(PublishError, match=r"notes.json is an? (pickle|program|archive), which could run"):
        read_contents(small)


@pytest.mark.parametrize("kind", HUBS)
def test_code_of_another_repository_is_not_copied(kind: str, tmp_path: Path) -> None:
    with run(kind, tmp_path / "hub") as hub:
        data = {"config.json": b"{}", "model.pt": CONTENTS["zip"], "am.mvn": b"<Nnet>", "fig/a.png": b"\x89PNG"}
        code = {name: b"anything" for name in NAMES if not name.endswith(".")}
        hub.add({**data, **code, "tokens.json": CONTENTS["elf"], "other.bin": CONTENTS["script"]})
        report = hub.pull()
        assert set(report.files) - {"README.md", "configuration.json"} == set(data)
        assert {path.name for path in (hub.home / "pulled").rglob("*") if path.is_file()} >= {"model.pt", "am.mvn"}
        assert not list((hub.home / "pulled").rglob("*.sh"))


@pytest.mark.parametrize("kind", HUBS)
def test_code_in_what_calls_itself_ours_is_refused(kind: str, tmp_path: Path) -> None:
    small = make_small(tmp_path / "small")
    add(small, "run.sh", b"anything")
    with run(kind, tmp_path / "hub", small) as hub:
        with pytest.raises(SourceError, match=r"not pulled: run.sh could run where it is loaded"):
            hub.pull()
        assert not (hub.home / "pulled").exists()


def test_this_interpreter_is_a_program() -> None:
    with Path(sys.executable).open("rb") as file:
        assert runs("model.safetensors", file.read(4096)) == "a program"
