"""How a Python process is started: with nothing of the working directory, which may be a model's, to import from."""

from __future__ import annotations

import os
import sys

SAFE_PATH = "PYTHONSAFEPATH"
"""The variable by which Python leaves the working directory out of ``sys.path``; what we start hands it on."""


def python_command(*arguments: str) -> list[str]:
    """Return the command that runs this Python with ``arguments``, ``-m`` or ``-c`` with what belongs to it.

    ``-m`` and ``-c`` would put the working directory before the standard library: there a model's repository may have
    a ``random.py`` or a ``torch.py``, and it would be run.
    """
    return [sys.executable, "-P", *arguments]


def python_environment(**variables: str) -> dict[str, str]:
    """Return the environment for such a process: this one's, with ``variables``, and safe for what it starts itself.

    An empty entry of ``PYTHONPATH`` means the working directory and is left out; other entries stay.
    """
    environment = os.environ | {SAFE_PATH: "1"} | variables
    paths = [
        path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if os.path.normpath(path or ".") != "."
    ]
    environment.pop("PYTHONPATH", None)
    return environment | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def leave_working_directory_out() -> None:
    """Take what ``python -m`` put first on ``sys.path`` away again, in this process and in what it starts."""
    os.environ[SAFE_PATH] = "1"
    try:
        here = os.getcwd()  # noqa: PTH109  # before pathlib
    except OSError:
        here = ""  # It is gone.
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", here):
        del sys.path[0]
