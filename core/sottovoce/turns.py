"""Timing two models by turns: each in a process of its own, one computing while the other waits.

A machine is not equally fast at every minute. What is timed once, one model after the other, compares two minutes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sottovoce.errors import SottovoceError
from sottovoce.interpreter import python_command, python_environment

ROUNDS = 5
"""Times that each model is asked; the first turn of both, which warms them, is left out."""
BUSY = 0.5
"""Running processes a core from others above which times say nothing."""
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


def busy(ratios: Sequence[float], load: float | None, cores: int) -> str | None:
    """Return why times of this machine say nothing now; ``None`` where they do.

    Args:
        ratios: How many times the baseline's seconds the model took, a round each.
        load: Processes that wanted to run in the last minute, before the timing began; ``None`` where it is not known.
        cores: Cores of the machine.
    """
    if load is not None and load > BUSY * cores + 1:
        return f"the machine is busy: {load:.1f} processes want to run on {cores} cores"
    found = spread(ratios)
    low, high = found["quartiles"]
    if high - low > WIDEST * found["median"]:
        return f"the times vary too much: quartiles of the ratio are {low:.2f} and {high:.2f}"
    return None


def system_load() -> float | None:
    """Return how many processes wanted to run in the last minute; ``None`` where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


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
                raise SottovoceError(f"the process that measures ended (exit {process.wait()})") from None
            if kind == "error":
                raise answer
            return answer

        try:
            ask((prepare, arguments))
            yield lambda: ask("next")
        finally:
            process.kill()


def _main() -> None:
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(kind: str, content: Any) -> None:
        stream.write(pickle.dumps((kind, content)))
        stream.flush()

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
