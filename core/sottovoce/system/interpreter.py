"""Start of Python processes, which never import from the working directory: it may be a model's; and their end."""

from __future__ import annotations

import atexit
import gc
import os
import sys

SAFE_PATH = "PYTHONSAFEPATH"
"""Variable that keeps the working directory out of Python's ``sys.path``; child processes inherit it."""


def python_command(*arguments: str) -> list[str]:
    """Return the command that runs this Python with ``arguments``, such as ``-m`` and a module.

    ``-m`` and ``-c`` would put the working directory before the standard library: there a model's repository may have
    a ``random.py`` or a ``torch.py``, and it would be run.
    """
    return [sys.executable, "-P", *arguments]


def python_environment(**variables: str) -> dict[str, str]:
    """Return the environment for such a process: this one's, with ``variables``, and safe for its own children.

    An empty entry of ``PYTHONPATH`` means the working directory and is left out; other entries stay.
    """
    environment = os.environ | {SAFE_PATH: "1"} | variables
    paths = [
        path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if os.path.normpath(path or ".") != "."
    ]
    environment.pop("PYTHONPATH", None)
    return environment | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def leave_working_directory_out() -> None:
    """Remove the entry that ``python -m`` put first on ``sys.path``, in this process and its children."""
    os.environ[SAFE_PATH] = "1"
    try:
        here = os.getcwd()  # noqa: PTH109  # before pathlib
    except OSError:
        here = ""  # it was removed
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", here):
        del sys.path[0]


def end_quickly() -> None:
    """Have this process look for no garbage at its end: among all objects of PyTorch that takes half a second or more.

    What is registered to run at the end still runs.
    """
    atexit.register(gc.freeze)
