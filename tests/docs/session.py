"""Runs blocks of the documentation one after another in one process: libraries are imported once.

``python session.py < blocks.json``: reads a list of ``{"page", "language", "code"}`` or ``{"command": [...]}``, and
writes a list of ``{"code", "output"}`` to the file that is its argument. No command is run twice.
With ``--together`` what Sottovoce would measure in processes of its own runs in this one as well.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any


def run_command(arguments: list[str]) -> tuple[int, str]:
    """Return the exit code and the output of ``sottovoce`` with these arguments, as its process would give them."""
    import click

    from sottovoce.cli import cli
    from sottovoce.errors import SottovoceError

    output = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            cli(arguments, prog_name="sottovoce", standalone_mode=False)
        except SottovoceError as error:
            print(f"error: {error}")
            code = error.exit_code
        except click.ClickException as error:
            print(f"error: {error.format_message()}; see sottovoce --help")
            code = error.exit_code
        except Exception:
            print(traceback.format_exc())
            code = 1
    return code, output.getvalue()


def run_python(code: str, names: dict[str, Any]) -> tuple[int, str]:
    """Return 0 and the output of a block of Python, or 1 and the traceback."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            exec(compile(code, "block", "exec"), names)
        except Exception:
            return 1, output.getvalue() + traceback.format_exc()
    return 0, output.getvalue()


def run_together(function: Any, *arguments: Any, progress: Any) -> Any:
    """Call a function in this process; its peak of memory is this process's then."""
    return function(*arguments, progress=progress)


def main() -> None:
    """Run what standard input holds."""
    from sottovoce.system.interpreter import end_quickly

    end_quickly()
    warnings.simplefilter("ignore")
    if "--together" in sys.argv:
        from sottovoce.system import isolation

        isolation.run_isolated = run_together  # before the modules that use it are imported

        from sottovoce.entrypoints import evaluate

        evaluate.TIMED = 2
    names: dict[str, dict[str, Any]] = {}
    done: dict[tuple[str, ...], tuple[int, str]] = {}
    results = []
    for request in json.load(sys.stdin):
        if command := request.get("command"):
            key = tuple(command)
            if key not in done:
                done[key] = run_command(command)
            code, output = done[key]
        else:
            code, output = run_python(request["code"], names.setdefault(request["page"], {"__name__": "__main__"}))
        results.append({"code": code, "output": output})
    Path(sys.argv[1]).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
