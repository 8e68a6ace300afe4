"""Running a function in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import IO, Any

from sottovoce.errors import SottovoceError
from sottovoce.system.interpreter import python_command, python_environment

CHATTY = ("torchao", "torch.utils._pytree")
"""Loggers of what others say while they are imported; how much they may say here, they may say in the new process."""


def run_isolated(function: Callable[..., Any], *arguments: Any, progress: Callable[[str, int, int], None]) -> Any:
    """Call ``function(*arguments, progress=...)`` in a new Python process.

    A new interpreter rather than ``multiprocessing``: that would run the caller's script again in the child.

    Args:
        function: A function that can be pickled by name.
        *arguments: Its arguments; like the result they pass through pickle, between these two processes only.
        progress: Called here with what the function reports there.

    Raises:
        SottovoceError: What the function raised, or that its process was killed.
    """
    command, environment = python_command("-m", __name__), python_environment()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        if process.stdin is None or process.stdout is None:
            raise SottovoceError("the process that measures has no pipes")
        try:
            levels = {name: logging.getLogger(name).level for name in CHATTY}
            pickle.dump(levels, process.stdin)
            pickle.dump((function, arguments), process.stdin)
            process.stdin.close()
            return _answer(process.stdout, progress)
        except (EOFError, BrokenPipeError):
            raise SottovoceError(describe_exit(process.wait())) from None
        except BaseException:
            process.kill()
            raise


def describe_exit(code: int) -> str:
    """Return what is said of a process that ended without an answer; memory only where that may be the reason."""
    if code >= 0:
        return f"the process that measures ended by itself (exit {code}) and told nothing; --debug shows its messages"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return "the process that measures was killed (SIGKILL), as the system does when memory runs out; was it enough?"
    return f"the process that measures was ended by {name}; a library failed in it, --debug shows its messages"


def _answer(stream: IO[bytes], progress: Callable[[str, int, int], None]) -> Any:
    while True:
        kind, content = pickle.load(stream)
        if kind == "progress":
            progress(*content)
        elif kind == "error":
            raise content
        else:
            return content


def open_answers() -> Callable[[str, Any], None]:
    """Return what sends a kind and its content to the parent, in a process that was started to be asked."""
    # Only pickles go to the parent; whatever a library prints goes to standard error.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(kind: str, content: Any) -> None:
        stream.write(pickle.dumps((kind, content)))
        stream.flush()

    return send


def _main() -> None:
    send = open_answers()
    try:
        function, arguments = _request()
        send("result", function(*arguments, progress=lambda *report: send("progress", report)))
    except SottovoceError as error:
        send("error", error)
    except MemoryError as error:
        send("error", SottovoceError(f"the process that measures ran out of memory {str(error)[:100]}".rstrip()))
    except Exception as error:
        # Not every library's error can be pickled; where it came from goes along as a note.
        failure = RuntimeError(f"{type(error).__name__}: {error}")
        failure.add_note(traceback.format_exc())
        send("error", failure)
    except KeyboardInterrupt:
        sys.exit(130)


def _request() -> Any:
    """Function and arguments; the parent's levels come first, since reading the rest imports libraries."""
    levels = pickle.load(sys.stdin.buffer)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    return pickle.load(sys.stdin.buffer)


if __name__ == "__main__":
    _main()
