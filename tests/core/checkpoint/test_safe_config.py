"""A repository's configuration is data: what would run or follow something is refused."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.checkpoint import contained_path, read_config
from sottovoce.checkpoint.safe_config import CODE_KEYS, check_files
from sottovoce.errors import SourceError

KEYS = st.text("abcdefgh_", min_size=1, max_size=6)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.text("abc {}$.", max_size=8).filter(lambda text: "${" not in text)
)
LAUGHS = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 12)}]\n" for a, b in pairwise("abcdefgh"))
CONFIGS = st.dictionaries(
    KEYS, st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
)


def read(config: Any, form: str = "yaml", **options: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"config.{form}"
        path.write_text(json.dumps(config) if form == "json" else yaml.safe_dump(config), encoding="utf-8")
        return read_config(path, **options)


def bury(config: dict[str, Any], place: list[str | None], inner: Any) -> dict[str, Any]:
    """``config`` with ``inner`` at a place; ``None`` stands for a list."""
    for key in reversed(place):
        inner = [0, inner] if key is None else {key: inner}
    return {**config, "buried": inner}


@given(CONFIGS, st.sampled_from(["yaml", "json"]))
def test_configuration_is_read_as_plain_data(config: dict[str, Any], form: str) -> None:
    assert read(config, form) == config


@given(
    CONFIGS,
    st.lists(KEYS | st.none(), max_size=5),
    st.sampled_from(sorted(CODE_KEYS)),
    st.sampled_from([True, 1, "x.py", ["x"], {"AutoModel": "x.Y"}]),
    st.sampled_from(["yaml", "json"]),
)
def test_code_key_is_refused_at_any_depth(
    config: dict[str, Any], place: list[str | None], key: str, value: Any, form: str
) -> None:
    with pytest.raises(SourceError, match=f"{key} is refused"):
        read(bury(config, place, {key: value}), form)


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_empty_code_key_is_accepted(value: Any) -> None:
    assert read({"inner": {"trust_remote_code": value}}) == {"inner": {"trust_remote_code": value}}


def test_further_keys_are_refused_on_request() -> None:
    assert read({"hub": "x"}) == {"hub": "x"}
    with pytest.raises(SourceError, match="inner.hub is refused"):
        read({"inner": {"hub": "x"}}, refuse=("hub",))


@given(CONFIGS, st.lists(KEYS | st.none(), max_size=5), st.text(max_size=5), st.text(max_size=5), st.booleans())
def test_reference_is_refused_anywhere(
    config: dict[str, Any], place: list[str | None], before: str, after: str, as_key: bool
) -> None:
    text = f"{before}${{oc.env:HOME}}{after}"
    with pytest.raises(SourceError, match="reference, which is not resolved"):
        read(bury(config, place, {text: 1} if as_key else text), "json")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "must be a mapping, not list"),
        ("", "must be a mapping, not NoneType"),
        ("a: [", "cannot be read"),
        ("a: !!python/object/apply:os.system [echo]", "cannot be read"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("a: " + "[" * 1200, "cannot be read"),
        ("a: &a {b: *a}", "contains itself"),
        (LAUGHS, "more than 1000000 entries"),
    ],
)
def test_broken_file_is_one_line(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(SourceError, match=problem) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


def test_invalid_configuration_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "config.yaml").mkdir()
    for name in ("config.json", "config.yaml"):
        with pytest.raises(SourceError, match="cannot be read"):
            read_config(tmp_path / name)
    with pytest.raises(SourceError, match=r"there is no other\.yaml; is it a model directory\?"):
        read_config(tmp_path / "other.yaml")


@pytest.mark.parametrize("name", ["tokens.json", "a/b/c.txt", "no such file", "..a", "a..", "文件"])
def test_contained_path_is_returned(name: str, tmp_path: Path) -> None:
    assert contained_path(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/../b",
        "~",
        "~/x",
        "~root/x",
        "C:\\x",
        "C:x",
        "c:/x",
        "\\x",
        "..\\x",
        "a\\..\\..\\x",
        "\\\\host\\share\\x",
        "//host/share/x",
        "\\\\?\\C:\\x",
    ],
)
def test_path_that_leaves_the_directory_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="tokenizer_conf.token_list .* leaves the model's directory"):
        contained_path(tmp_path, name, "tokenizer_conf.token_list")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_invalid_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not a valid path"):
        contained_path(tmp_path, name)


@given(st.text("./\\~:aC\0", max_size=12))
def test_any_name_is_contained_or_refused(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = contained_path(Path(folder), name)
        except SourceError:
            return
        assert path.resolve().is_relative_to(Path(folder).resolve())


def test_link_that_leaves_is_refused(tmp_path: Path) -> None:
    directory, outside = tmp_path / "model", tmp_path / "outside"
    directory.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (directory / "own").write_text("own")
    (directory / "inside").symlink_to("own")
    (directory / "file").symlink_to(outside / "secret")
    (directory / "folder").symlink_to(outside)
    (directory / "loop").symlink_to("loop")
    assert contained_path(directory, "inside").read_text() == "own"
    for name in ("file", "folder/secret", "loop"):
        with pytest.raises(SourceError):
            contained_path(directory, name)


def test_linked_directory_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "own").write_text("own")
    (tmp_path / "link").symlink_to("real")
    assert contained_path(tmp_path / "link", "own").read_text() == "own"


def test_links_of_the_hub_cache_are_followed(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--o--n" / "snapshots" / "abc", tmp_path / "models--o--n" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "123").write_text("content")
    (snapshot / "tokens.json").symlink_to("../../blobs/123")
    (snapshot / "other").symlink_to(tmp_path)
    assert contained_path(snapshot, "tokens.json").read_text() == "content"
    with pytest.raises(SourceError, match="leaves"):
        contained_path(snapshot, "other")


@pytest.mark.parametrize(
    "name", ["LICENSE", "NOTICE.txt", "config.json", "tokenizer.json", "model.safetensors", "a/b.jinja"]
)
@pytest.mark.parametrize("absolute", [True, False])
def test_link_that_leaves_a_models_directory_is_refused(name: str, absolute: bool, tmp_path: Path) -> None:
    model, outside = tmp_path / "model", tmp_path / "secret"
    (model / name).parent.mkdir(parents=True)
    outside.write_text("secret")
    (model / name).symlink_to(outside if absolute else os.path.relpath(outside, (model / name).parent))
    with pytest.raises(SourceError, match=rf"'{name}' is a link that leaves the model's directory"):
        check_files(model)


@pytest.mark.parametrize("target", ["/", "..", "../other", "/proc/self/root/etc", "none/../../.."])
def test_linked_folder_that_leaves_is_refused(target: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "model" / "additional_chat_templates").symlink_to(target)
    with pytest.raises(SourceError, match="'additional_chat_templates' is a link that leaves"):
        check_files(tmp_path / "model")


def test_links_within_a_directory_and_of_a_hubs_cache_are_accepted(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / ("a" * 40), tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1234").write_text("content")
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    (snapshot / "same.json").symlink_to("config.json")
    (snapshot / "missing.json").symlink_to("nothing")
    (snapshot / ".cache").symlink_to("/")
    check_files(snapshot)
    (tmp_path / "link").symlink_to(snapshot)
    check_files(tmp_path / "link")
    (snapshot / "other.json").symlink_to("../../refs")
    with pytest.raises(SourceError, match="other.json"):
        check_files(snapshot)


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "config.json", "deep/er/x"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a device", "loop"])
def test_pipe_or_device_is_refused_without_waiting(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "m" / name
    path.parent.mkdir(parents=True)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening, contextlib.chdir(path.parent):
        if kind == "pipe":
            os.mkfifo(path.name)
        elif kind == "socket":
            listening.bind(path.name)
        else:
            path.symlink_to("/dev/zero" if kind == "link to a device" else path.name)
        with pytest.raises(SourceError, match=name) as caught:
            check_files(tmp_path / "m")
    assert str(caught.value).isprintable()
