"""Check of a budget against what can be reached, before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.errors import UsageError
from sottovoce.recipe_search.solver import Problem, fastest
from sottovoce.report.number_format import size

if TYPE_CHECKING:
    from sottovoce.recipe_search.budget import Budget


def check_size(budget: Budget, before: int, least: int) -> None:
    """Refuse a budget that no recipe meets, or that the model meets as it is.

    Args:
        budget: The budget.
        before: Bytes of the model's weights on disk.
        least: Bytes of the smallest that can be chosen.

    Raises:
        UsageError: It is one of these.
    """
    limit = budget.bytes_of(before)
    if limit is None:
        return
    if limit >= before:
        raise UsageError(
            f"the budget of {exact(limit)} is not below the model's size of {exact(before)}: there is nothing to "
            "search, and nothing was written"
        )
    if limit < least:
        raise UsageError(
            f"the budget of {exact(limit)} is below the least size, {exact(least)} or x{least / before:.4f}: give "
            "that or more, or allow more steps (--steps)"
        )


def check_latency(budget: Budget, problem: Problem, before: float) -> None:
    """Refuse a time that no recipe meets, or that the model meets as it is.

    Raises:
        UsageError: It is one of these.
    """
    share = budget.latency_share
    if share is None:
        return
    if share >= 1:
        raise UsageError(f"the budget latency=x{share:g} is not below the model's own time: there is nothing to search")
    least = problem.seconds(fastest(problem)) / before
    if share < least:
        raise UsageError(
            f"the budget latency=x{share:g} is below the least time that the choices reach here, x{least:.3f}: give "
            "that or more, or allow more steps (--steps)"
        )


def exact(count: int) -> str:
    """Return a size for people, and in bytes."""
    return f"{size(count)} ({count:,} bytes)"
