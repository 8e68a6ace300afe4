"""What a library raises over a repository's files is the repository's error."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.errors import SourceError, UsageError, as_source_error, reason


class PanicException(BaseException):  # what libraries in Rust raise is called so
    """Stands for what pyo3 raises."""


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ZeroDivisionError(), RecursionError("deep"), SystemExit(255), PanicException("index")],
    ids=repr,
)
def test_library_error_becomes_a_source_error(error: BaseException) -> None:
    with (
        pytest.raises(SourceError, match=r"m/config\.json: cannot be read \(") as caught,
        as_source_error(Path("m/config.json"), "cannot be read"),
    ):
        raise error
    assert type(error).__name__ in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), UsageError("ours")], ids=repr)
def test_other_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, as_source_error("m", "cannot be read"):
        raise error
    assert caught.value is error


def test_reason_is_short_and_plain() -> None:
    assert reason(ValueError()) == "ValueError"
    assert reason(ValueError("a\x1b[0m\nb")) == "ValueError: a b"
    assert len(reason(ValueError("x" * 10_000))) < 200
