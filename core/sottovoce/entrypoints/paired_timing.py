"""Timing of models by turns: each in a process of its own, one computing while the others wait.

A machine is not equally fast at every minute. Timing one model after the other would compare two minutes.
"""

from __future__ import annotations

import contextlib
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil

from sottovoce.errors import SottovoceError
from sottovoce.report.number_format import counted
from sottovoce.system.interpreter import python_command, python_environment
from sottovoce.system.isolation import describe_exit, open_answers, send_log_levels, take_log_levels
from sottovoce.system.progress import Progress, silent

ROUNDS = 5
"""Number of rounds that count; one more is run before them, to warm up both models."""
BUSY = 0.15
"""Share of the machine's cores that other processes may use meanwhile; above it times are meaningless."""
WIDEST = 0.25
"""Distance of the quartiles, as a share of the median, above which a ratio is meaningless."""

Timed = Callable[[], Sequence[float]]
"""Function that runs a model on samples once and returns the seconds of each."""
Rounds = list[Sequence[float]]
"""By round, the seconds of each sample."""


def take_turns(*models: Timed, rounds: int = ROUNDS, progress: Progress = silent) -> list[Rounds]:
    """Call all in turn, and return the seconds that each took in each round.

    Args:
        *models: The models' functions.
        rounds: Number of rounds that count; one more is run before them.
        progress: Called after every round.
    """
    every: list[list[Sequence[float]]] = []
    for number in range(rounds + 1):
        every.append([model() for model in models])
        progress("times", number + 1, rounds + 1)
    return [list(seconds) for seconds in zip(*every[1:], strict=True)]


def spread(numbers: Sequence[float]) -> dict[str, Any]:
    """Return median, quartiles and the number of rounds."""
    low, middle, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return {"median": middle, "quartiles": [low, high], "rounds": len(numbers)}


def busy(ratios: Sequence[float], others: float | None, cores: int) -> str | None:
    """Return the reason if this machine's times are meaningless now, otherwise ``None``.

    Args:
        ratios: Seconds of the model divided by the baseline's, by round.
        others: Number of cores that other processes used meanwhile; ``None`` if it is not known.
        cores: Number of cores of the machine.
    """
    if others is not None and others > BUSY * cores:
        return f"the machine is busy: other processes use {others:.1f} of its {counted(cores, 'core')}"
    summary = spread(ratios)
    low, high = summary["quartiles"]
    if high - low > WIDEST * summary["median"]:
        return f"the times vary too much: quartiles of the ratio are {low:.2f} and {high:.2f}"
    return None


class OtherWork:
    """Meter of the work of processes other than this one and its children."""

    def __init__(self) -> None:
        """Start the meter."""
        self._begin, self._system, self._own = time.perf_counter(), _system_seconds(), _own_seconds()

    def cores(self) -> float:
        """Return the number of cores that the others used since; a virtual machine's stolen time counts as theirs."""
        passed = max(time.perf_counter() - self._begin, 1e-3)
        used = _system_seconds() - self._system - (_own_seconds() - self._own)
        return max(0.0, used / passed)


def _system_seconds() -> float:
    """Return the seconds that all cores together were not idle."""
    times = psutil.cpu_times()._asdict()
    # A guest's time is already part of the user's.
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(seconds for kind, seconds in times.items() if kind not in idle))


def _own_seconds() -> float:
    current = psutil.Process()
    total = 0.0
    for process in (current, *current.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            # The work of children that have ended meanwhile is not that of others.
            ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            total += times.user + times.system + ended
    return total


@contextlib.contextmanager
def isolated(prepare: Callable[..., Timed], *arguments: Any) -> Iterator[Timed]:
    """Call ``prepare(*arguments)`` in a new process, and yield a function that runs its result there.

    Raises:
        SottovoceError: The function raised it in the process, or the process ended.
    """
    command, environment = python_command("-m", __name__), python_environment()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        requests, replies = process.stdin, process.stdout
        if requests is None or replies is None:
            raise SottovoceError("the process that measures has no pipes")

        def request(content: Any) -> Any:
            try:
                pickle.dump(content, requests)
                requests.flush()
                kind, reply = pickle.load(replies)
            except (EOFError, BrokenPipeError):
                raise SottovoceError(describe_exit(process.wait())) from None
            if kind == "error":
                raise reply
            return reply

        try:
            send_log_levels(requests)
            request((prepare, arguments))
            yield lambda: request("next")
        finally:
            process.kill()


def _main() -> None:
    send = open_answers()
    try:
        take_log_levels(sys.stdin.buffer)
        prepare, arguments = pickle.load(sys.stdin.buffer)
        timed = prepare(*arguments)
        send("result", None)
        while True:
            pickle.load(sys.stdin.buffer)
            send("result", list(timed()))
    except EOFError:
        return
    except SottovoceError as error:
        send("error", error)
    except Exception as error:
        send("error", RuntimeError(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    _main()
