"""Budgets as people write them."""

from __future__ import annotations

import pytest

from sottovoce.errors import UsageError
from sottovoce.recipe_search.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2.4MB", Budget(size_bytes=2_400_000)),
        ("2.4 mb", Budget(size_bytes=2_400_000)),
        ("2MiB", Budget(size_bytes=2 * 2**20)),
        ("1500000", Budget(size_bytes=1_500_000)),
        (1500000, Budget(size_bytes=1_500_000)),
        ("size=1GB", Budget(size_bytes=10**9)),
        ("x0.3", Budget(size_share=0.3)),
        ("size=x.3", Budget(size_share=0.3)),
        ("latency=x0.5", Budget(latency_share=0.5)),
        (["2.4MB", "latency=x0.5"], Budget(size_bytes=2_400_000, latency_share=0.5)),
        (["x0.3", "x0.2"], Budget(size_share=0.2)),
    ],
)
def test_a_budget_is_read(text: str | int | list[str | int], budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "small", "x", "x0", "-2MB", "2.4PB", "latency=2MB", "rtf=x0.5", "=", []])
def test_what_is_no_budget_is_one_line_with_the_forms(text: str | list[str | int]) -> None:
    with pytest.raises(UsageError, match=r"give a size such as 2\.4MB"):
        parse_budget(text)


def test_the_smaller_of_two_sizes_counts() -> None:
    assert Budget(size_bytes=500, size_share=0.4).bytes_of(1000) == 400
    assert Budget(size_bytes=300, size_share=0.4).bytes_of(1000) == 300
    assert Budget(latency_share=0.5).bytes_of(1000) is None


def test_share_without_an_x_is_refused_with_both_ways_to_write_it() -> None:
    with pytest.raises(UsageError, match=r"'0.1' has no unit; write x0.1 or 0.1MB"):
        parse_budget("0.1")
