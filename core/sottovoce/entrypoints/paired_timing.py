"""Timing two models by turns: each in a process of its own, one computing while the other waits.

A machine is not equally fast at every minute. What is timed once, one model after the other, compares two minutes.
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
from sottovoce.system.interpreter import python_command, python_environment
from sottovoce.system.isolation import describe_exit, open_answers

ROUNDS = 5
"""Times that each model is asked; the first turn of both, which warms them, is left out."""
BUSY = 0.15
"""Share of the machine's cores that other processes may use meanwhile; above it times say nothing."""
WIDEST = 0.25
"""Distance of the quartiles, as a share of the median, above which a ratio says nothing."""

Timed = Callable[[], Sequence[float]]


Rounds = list[Sequence[float]]
"""For each round the seconds of each sample."""


def take_turns(first: Timed, second: Timed, rounds: int = ROUNDS) -> tuple[Rounds, Rounds]:
    """Ask both in turn, and return the seconds that each took in each round.

    Args:
        first: Runs a model on the samples once, and returns each one's seconds.
        second: The same of the other model.
        rounds: Rounds that count; one more is run before them.
    """
    taken = [(first(), second()) for _ in range(rounds + 1)][1:]
    return [one for one, _ in taken], [other for _, other in taken]


def spread(numbers: Sequence[float]) -> dict[str, Any]:
    """Return median and quartiles, and of how many rounds."""
    low, middle, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return {"median": middle, "quartiles": [low, high], "rounds": len(numbers)}


def busy(ratios: Sequence[float], others: float | None, cores: int) -> str | None:
    """Return why times of this machine say nothing now; ``None`` where they do.

    Args:
        ratios: How many times the baseline's seconds the model took, a round each.
        others: Cores that other processes used meanwhile; ``None`` where it is not known.
        cores: Cores of the machine.
    """
    if others is not None and others > BUSY * cores:
        return f"the machine is busy: other processes use {others:.1f} of its {cores} cores"
    found = spread(ratios)
    low, high = found["quartiles"]
    if high - low > WIDEST * found["median"]:
        return f"the times vary too much: quartiles of the ratio are {low:.2f} and {high:.2f}"
    return None


class OtherWork:
    """What processes beside this one and its children compute, from now on."""

    def __init__(self) -> None:
        """Begin to count."""
        self._begin, self._system, self._own = time.perf_counter(), _system_seconds(), _own_seconds()

    def cores(self) -> float:
        """Return how many cores the others used since; a virtual machine's stolen time is others' too."""
        passed = max(time.perf_counter() - self._begin, 1e-3)
        used = _system_seconds() - self._system - (_own_seconds() - self._own)
        return max(0.0, used / passed)


def _system_seconds() -> float:
    """Seconds of all cores that were not idle."""
    times = psutil.cpu_times()._asdict()
    # A guest's time is counted as the user's already.
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(seconds for kind, seconds in times.items() if kind not in idle))


def _own_seconds() -> float:
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def isolated(prepare: Callable[..., Timed], *arguments: Any) -> Iterator[Timed]:
    """Give what ``prepare(*arguments)`` gives, living in a new process, where each call runs it.

    Raises:
        SottovoceError: What it raised there, or its process ended.
    """
    command, environment = python_command("-m", __name__), python_environment()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        asking, answering = process.stdin, process.stdout
        if asking is None or answering is None:
            raise SottovoceError("the process that measures has no pipes")

        def ask(content: Any) -> Any:
            try:
                pickle.dump(content, asking)
                asking.flush()
                kind, answer = pickle.load(answering)
            except (EOFError, BrokenPipeError):
                raise SottovoceError(describe_exit(process.wait())) from None
            if kind == "error":
                raise answer
            return answer

        try:
            ask((prepare, arguments))
            yield lambda: ask("next")
        finally:
            process.kill()


def _main() -> None:
    send = open_answers()
    try:
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
