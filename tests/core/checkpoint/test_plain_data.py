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
def test_plain_data_is_what_it_is(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_yaml(yaml.safe_dump(value)) == value


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400"])
def test_a_number_that_is_none_is_refused_in_json(number: str) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        parse_json(f'{{"a": [{number}]}}')


@pytest.mark.parametrize("number", [".nan", ".NaN", ".inf", "-.inf", "+.Inf", "1.0e+999"])
def test_a_number_that_is_none_is_refused_in_yaml(number: str) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        parse_yaml(f"a: [{number}]")


@pytest.mark.parametrize(
    "text",
    ["a: !!set {b}", "a: !!omap [b: 1]", "a: !!pairs [b: 1]", "a: !!binary aGk=", "a: !thing 1",
     "a: !!python/object/apply:os.system [echo]"],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        parse_yaml(text)


def test_merged_mappings_are_refused_at_once() -> None:
    text = "m0: &m0 {" + ", ".join(f"k{n}: 1" for n in range(10)) + "}\n"
    text += "".join(f"m{n}: &m{n}\n  <<: [{', '.join([f'*m{n - 1}'] * 10)}]\n" for n in range(1, 9))
    begin = time.process_time()
    with pytest.raises(ValueError, match="merges mappings"):
        parse_yaml(text)
    assert time.process_time() - begin < 10


def test_a_date_is_the_text_that_it_is() -> None:
    assert parse_yaml("a: 2001-12-31\nb: 2001-99-99") == {"a": "2001-12-31", "b": "2001-99-99"}


@pytest.mark.parametrize(("parse", "text"), [(parse_json, "[" * 100_000), (parse_yaml, "a: " + "[" * 5_000)])
def test_what_is_nested_too_deeply_is_refused(parse: Any, text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(text)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_data, "LARGEST_FILE", 1_000_000)
    path = tmp_path / "config.json"
    path.write_text('{"a": "' + "x" * 1_000_000 + '"}')
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_data(path)


def test_a_mark_of_the_byte_order_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_data(path) == {}


@pytest.mark.parametrize("half", [r"\ud800", r"\uDC80", r"\udfff\ud800"])
def test_half_a_character_is_refused_and_a_whole_one_is_read(half: str) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        parse_json(f'{{"a": "x{half}"}}')
    assert parse_json(r'{"a": "\ud83d\ude00"}') == {"a": "\U0001f600"}
