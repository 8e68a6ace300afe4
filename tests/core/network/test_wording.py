"""What is shown of another's words: one short line, without tokens and without what a terminal obeys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.network.wording import fit_cause, listed, shown
from sottovoce.text.plain_text import shortened

TOKEN = "correct-horse-battery-staple"
SECRETS = {
    "Authorization: Bearer abcdef123456": "abcdef123456",
    "basic dXNlcjpwYXNzd29yZA==": "dXNlcjpwYXNzd29yZA",
    "Cookie: m_session_id=abcdef; path=/": "abcdef",
    "hf_" + "abcdefgh": "abcdefgh",
    "ms-01234567-89ab": "01234567",
    "https://ann:horse@example.com/x": "horse",
    "https://s3.example.com/x?X-Amz-Signature=abcd&y=1": "abcd",
}


@pytest.mark.parametrize("said", SECRETS)
def test_known_secret_is_hidden(said: str) -> None:
    assert SECRETS[said] not in shown(f"before {said} after")
    assert "after" in shown(f"before {said} after")


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 20), st.integers(8, 28))
def test_no_piece_of_a_token_is_shown(before: str, after: str, first: int, count: int) -> None:
    piece = TOKEN[first : first + max(count, 8)]
    text = shown(before + piece + after, {TOKEN})
    assert len(piece) < 8 or piece not in text


@given(st.text(), st.integers(10, 400))
def test_any_message_becomes_one_printable_line(words: str, longest: int) -> None:
    text = shown(words, longest=longest)
    assert text == "" or text.isprintable()
    assert len(text) <= longest


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07words", "words"),
        ("\x1b]8;;https://evil\x1b\\link", "link"),
        ("\x9b31mred", "red"),
        ("a\r\nb\tc\x00d", "a b c d"),
        ("abc\u202edcba\u2066", "abcdcba"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("one\u2028two", "one two"),
    ],
)
def test_terminal_sequences_are_removed(said: str, left: str) -> None:
    assert shown(said) == left


def test_long_text_keeps_both_ends() -> None:
    text = shortened("first " + "x" * 1000 + " last", 100)
    assert text.startswith("first ")
    assert text.endswith(" last")
    assert len(text) == 100


def test_long_list_ends_with_the_number_of_further_names() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(map(str, range(1000))) == "0, 1, 2, 3, 4 and 995 more"
    assert len(listed(["x" * 10_000] * 9)) < 600


@pytest.mark.parametrize("said", [f"no {TOKEN}", "hf_abcdefgh", "\x1b[31m"])
def test_error_with_a_secret_is_not_shown_as_cause(said: str) -> None:
    deep = ValueError(said)
    middle = RuntimeError("fine")
    middle.__context__ = deep
    deep.__context__ = middle  # Chains may be rings.
    top = OSError("fine too")
    top.__cause__ = middle
    assert fit_cause(top, {TOKEN}) is None
    assert fit_cause(deep, {TOKEN}) is None
    middle.__context__ = None
    assert fit_cause(top, {TOKEN}) is top
