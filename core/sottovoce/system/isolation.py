"""Running of a function in a separate process, so that its peak memory can be measured."""

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
from sottovoce.system.interpreter import end_quickly, python_command, python_environment

NOISY_LOGGERS = ("torchao", "torch.utils._pytree")
"""Loggers of libraries that log while they are imported; the new process uses the levels of this one."""


def run_isolated(function: Callable[..., Any], *arguments: Any, progress: Callable[[str, int, int], None]) -> Any:
    """Call ``function(*arguments, progress=...)`` in a new Python process.

    A new interpreter rather than ``multiprocessing``: that would run the caller's script again in the child.

    Args:
        function: A function that can be pickled by name.
        *arguments: Its arguments; like the result they pass through pickle, between these two processes only.
        progress: Called in this process with the progress that the function reports.

    Raises:
        SottovoceError: The function raised it, or its process was killed.
    """
    command, environment = python_command("-m", __name__), python_environment()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        if process.stdin is None or process.stdout is None:
            raise SottovoceError("the measuring process has no pipes")
        try:
            send_log_levels(process.stdin)
            pickle.dump((function, arguments), process.stdin)
            process.stdin.close()
            return _answer(process.stdout, progress)
        except (EOFError, BrokenPipeError):
            raise SottovoceError(describe_exit(process.wait())) from None
        except BaseException:
            process.kill()
            raise


def describe_exit(code: int) -> str:
    """Return an error message for a process that ended without an answer, by its exit code."""
    if code >= 0:
        return f"the measuring process ended without a result (exit {code}); --debug shows its messages"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return "the measuring process was killed (SIGKILL), as the system does when memory runs out; was it enough?"
    return f"the measuring process was ended by {name}; a library failed in it, --debug shows its messages"


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
    """Return a function that sends a kind and its content from a child process to the parent."""
    # Only pickles go to the parent; whatever a library prints goes to standard error.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(kind: str, content: Any) -> None:
        stream.write(pickle.dumps((kind, content)))
        stream.flush()

    return send


def _main() -> None:
    end_quickly()
    send = open_answers()
    try:
        function, arguments = _request()
        send("result", function(*arguments, progress=lambda *report: send("progress", report)))
    except SottovoceError as error:
        send("error", error)
    except MemoryError as error:
        send("error", SottovoceError(f"the measuring process ran out of memory {str(error)[:100]}".rstrip()))
    except Exception as error:
        # Not every library's error can be pickled; the traceback is added as a note.
        failure = RuntimeError(f"{type(error).__name__}: {error}")
        failure.add_note(traceback.format_exc())
        send("error", failure)
    except KeyboardInterrupt:
        sys.exit(130)


def send_log_levels(stream: IO[bytes]) -> None:
    """Send a child process the levels of the noisy loggers, before all else: unpickling the rest imports libraries."""
    pickle.dump({name: logging.getLogger(name).level for name in NOISY_LOGGERS}, stream)


def take_log_levels(stream: IO[bytes]) -> None:
    """Read what :func:`send_log_levels` sent, and set these levels."""
    for name, level in pickle.load(stream).items():
        logging.getLogger(name).setLevel(level)


def _request() -> Any:
    """Read function and arguments."""
    take_log_levels(sys.stdin.buffer)
    return pickle.load(sys.stdin.buffer)


if __name__ == "__main__":
    _main()
