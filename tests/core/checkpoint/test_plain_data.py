"""JSON and YAML that nobody vouches for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.checkpoint import plain_data
from sottovoce.checkpoint.plain_data import parse_json, parse_yaml, read_data

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text("abc ä中", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1, max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_is_parsed_unchanged(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_yaml(yaml.safe_dump(value)) == value


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400"])
def test_nan_in_json_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        parse_json(f'{{"a": [{number}]}}')


@pytest.mark.parametrize("number", [".nan", ".NaN", ".inf", "-.inf", "+.Inf", "1.0e+999"])
def test_nan_in_yaml_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        parse_yaml(f"a: [{number}]")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!set {b}",
        "a: !!omap [b: 1]",
        "a: !!pairs [b: 1]",
        "a: !!binary aGk=",
        "a: !thing 1",
        "a: !!python/object/apply:os.system [echo]",
    ],
)
def test_yaml_tag_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        parse_yaml(text)


def test_merged_mappings_are_refused_at_once() -> None:
    text = "m0: &m0 {" + ", ".join(f"k{n}: 1" for n in range(10)) + "}\n"
    text += "".join(f"m{n}: &m{n}\n  <<: [{', '.join([f'*m{n - 1}'] * 10)}]\n" for n in range(1, 9))
    begin = time.process_time()
    with pytest.raises(ValueError, match="merges mappings"):
        parse_yaml(text)
    assert time.process_time() - begin < 10


def test_date_stays_text() -> None:
    assert parse_yaml("a: 2001-12-31\nb: 2001-99-99") == {"a": "2001-12-31", "b": "2001-99-99"}


@pytest.mark.parametrize(("parse", "text"), [(parse_json, "[" * 100_000), (parse_yaml, "a: " + "[" * 5_000)])
def test_too_deep_nesting_is_refused(parse: Any, text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(text)


def test_too_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_data, "LARGEST_FILE", 1_000_000)
    path = tmp_path / "config.json"
    path.write_text('{"a": "' + "x" * 1_000_000 + '"}')
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_data(path)


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_data(path) == {}


@pytest.mark.parametrize("half", [r"\ud800", r"\uDC80", r"\udfff\ud800"])
def test_lone_surrogate_is_refused(half: str) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        parse_json(f'{{"a": "x{half}"}}')
    assert parse_json(r'{"a": "\ud83d\ude00"}') == {"a": "\U0001f600"}
