"""What a model's own files say of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sottovoce.checkpoint.model_card import copy_notices, describe_origin, fingerprint, front_matter

CARD = (
    "---\nlicense: other\nlicense_name: model-license\nlicense_link: LICENSE\nlanguage:\n- zh\n- en\n---\n# A model\n"
)


def test_licence_and_languages_are_read_from_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD, encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    origin = describe_origin(tmp_path)
    assert origin["license"] == {"id": "other", "name": "model-license", "link": "LICENSE"}
    assert origin["languages"] == ["zh", "en"]
    assert origin["fingerprint"] == fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("license: apache-2.0\nlanguage: zh", ({"id": "apache-2.0", "name": None, "link": None}, ["zh"])),
        ("license: [mit, other]", ({"id": "mit", "name": None, "link": None}, [])),
        ("license: 3\nlanguage: {a: b}", (None, [])),
        ("- no\n- mapping", (None, [])),
        ("license: [unclosed", (None, [])),
        ("license: !!python/object/apply:os.getcwd []", (None, [])),
        ("license: ''", (None, [])),
    ],
)
def test_invalid_front_matter_is_ignored(tmp_path: Path, head: str, expected: tuple[object, object]) -> None:
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n", encoding="utf-8")
    origin = describe_origin(tmp_path)
    assert (origin["license"], origin["languages"]) == expected
    assert origin["fingerprint"] is None


@pytest.mark.parametrize(
    "content", [b"", b"# Title\n\n---\nlicense: mit\n---\n", b"---\nlicense: mit\n", b"---\n\xff\n---\n"]
)
def test_card_without_front_matter_gives_no_metadata(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "README.md").write_bytes(content)
    assert front_matter(tmp_path / "README.md") == {}
    assert front_matter(tmp_path / "missing.md") == {}


def test_front_matter_with_windows_line_ends_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\ntext")
    assert front_matter(tmp_path / "README.md") == {"license": "mit"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(size=st.integers(1, 20_000), where=st.floats(0, 1, exclude_max=True))
def test_fingerprint_covers_every_byte_of_a_small_file(tmp_path: Path, size: int, where: float) -> None:
    path = tmp_path / "model.safetensors"
    content = bytearray(size)
    path.write_bytes(content)
    before = fingerprint(tmp_path)
    content[int(where * size)] = 1
    path.write_bytes(content)
    assert fingerprint(tmp_path) != before


def test_fingerprint_covers_names_sizes_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(1_000_000_000)  # a hole: takes no room
    seen = {fingerprint(tmp_path)}
    for change in (0, 1_000_000_000 - 1):
        with path.open("r+b") as file:
            file.seek(change)
            file.write(b"x")
        seen.add(fingerprint(tmp_path))
    os.truncate(path, 999_999_999)
    seen.add(fingerprint(tmp_path))
    path.rename(tmp_path / "other.safetensors")
    seen.add(fingerprint(tmp_path))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert len(seen) == 5
    assert fingerprint(tmp_path) in seen  # the configuration is no weight


def test_notices_are_copied_with_the_model(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    copy.mkdir()
    names = ("LICENSE", "LICENSE.txt", "NOTICE", "License-Qwen.md", "COPYING", "licenses.json", "README.md")
    for name in names:
        (source / name).write_text(name, encoding="utf-8")
    (copy / "NOTICE").write_text("its own", encoding="utf-8")
    copy_notices(source, copy)
    assert {path.name for path in copy.iterdir()} == {"LICENSE", "LICENSE.txt", "NOTICE", "License-Qwen.md", "COPYING"}
    assert (copy / "NOTICE").read_text(encoding="utf-8") == "its own"
