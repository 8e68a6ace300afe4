"""Python in a process of its own that need not import PyTorch: it is forked from one that did that and nothing else.

All of FunASR, which takes longer, can be imported there as well.

What a process does before PyTorch is imported, or with its signals and streams, needs one that is started as users do.
"""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HUB_CLIENTS = ("torch", "httpx", "requests", "pydantic", "matplotlib.figure", "matplotlib.backends.backend_agg")
"""What clients of hubs import before they read a setting, and what draws the pictures of a card."""

SERVER = """
import atexit, contextlib, gc, importlib, json, os, runpy, signal, sys, threading

with contextlib.redirect_stdout(sys.stderr):  # FunASR greets
    for name in sys.argv[1:]:
        importlib.import_module(name)
gc.freeze()  # what is here now is never looked through for garbage

def begin(job):
    signal.alarm(300)  # a process that hangs is ended
    os.dup2(os.open(job["in"], os.O_RDONLY), 0)
    os.dup2(os.open(job["out"], os.O_WRONLY), 1)
    os.dup2(os.open(job["err"], os.O_WRONLY), 2)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(job["environment"])
    entries = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = [os.getcwd(), *dict.fromkeys(entries + sys.path[1:])]

for line in sys.stdin.buffer:
    job = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    begin(job)
    break
else:
    os._exit(0)
code = 0
try:
    sys.argv = [job["program"], *job["arguments"]]
    if job["program"] == "-c":
        exec(compile(job["code"], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module(job["program"], run_name="__main__", alter_sys=True)
except SystemExit as ending:
    code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 1
    if code and not isinstance(ending.code, int):
        print(ending.code, file=sys.stderr)
except Exception:
    sys.excepthook(*sys.exc_info())
    code = 1
# What Python does at its end, but for taking all objects of PyTorch apart, which is half a second.
threading._shutdown()
atexit._run_exitfuncs()
for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):
        stream.flush()
os._exit(code & 255)
"""


@functools.cache
def _server(*imports: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SERVER, *imports]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.communicate()


def run_code(
    code: str,
    environment: dict[str, str],
    *arguments: str | Path,
    given: str = "",
    imports: tuple[str, ...] = ("torch",),
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as ``python -c`` would, with these modules imported already and ``given`` as its standard input."""
    job = {"program": "-c", "code": code, "arguments": [str(argument) for argument in arguments], "given": given}
    return _run(job, environment, *imports)


def run_module(
    name: str, *arguments: str | Path, environment: dict[str, str], imports: tuple[str, ...] = ("torch",)
) -> subprocess.CompletedProcess[str]:
    """Run a module as ``python -m`` would."""
    return _run({"program": name, "arguments": [str(argument) for argument in arguments]}, environment, *imports)


def _run(job: dict[str, Any], environment: dict[str, str], *imports: str) -> subprocess.CompletedProcess[str]:
    server = _server(*imports)
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        given, out, err = Path(folder, "in"), Path(folder, "out"), Path(folder, "err")
        given.write_text(job.pop("given", ""), encoding="utf-8")
        out.touch()
        err.touch()
        form = job | {"environment": environment, "in": str(given), "out": str(out), "err": str(err)}
        server.stdin.write(json.dumps(form).encode() + b"\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(
            [job["program"]], code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
        )
