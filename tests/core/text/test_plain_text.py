"""What nobody vouches for fits one line of a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import CheckpointError, OutputError, SourceError, UnknownModelError
from sottovoce.text.plain_text import one_line


@given(st.text(max_size=600), st.integers(20, 300))
def test_any_text_becomes_one_printable_line(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert len(line) <= longest
    assert all(character.isprintable() or not character.isascii() for character in line)
    assert "\x1b" not in line
    assert "\u202e" not in line


@given(st.text(st.characters(categories=("L", "N")), max_size=300))
def test_short_plain_text_is_unchanged(text: str) -> None:
    assert one_line(text) == text
    assert one_line(text, 300) == text


def test_long_text_keeps_its_beginning_and_its_end() -> None:
    line = one_line("begin " + "x" * 1000 + " fetch the model again", 100)
    assert line.startswith("begin ")
    assert line.endswith("fetch the model again")


@pytest.mark.parametrize("kind", [SourceError, CheckpointError, UnknownModelError])
def test_error_that_quotes_a_repository_is_short_and_plain(kind: type[Exception]) -> None:
    message = str(kind("a\x1b[31m\u202e\nb" + "c" * 100_000))
    assert len(message) <= 300
    assert message.startswith("a b")


def test_error_of_fixed_text_is_not_cut() -> None:
    assert len(str(OutputError("x" * 1000))) == 1000


def test_pickled_error_is_the_same() -> None:
    import pickle

    error = SourceError("x" * 1000)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
