"""Clients that know no address but the loopback's, and do not wait between their attempts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked import HUB_CLIENTS, run_code
from hub.loopback.server import Loopback
from sottovoce_hub import huggingface_errors

TESTS = Path(__file__).parents[2]
_FILE = "{repo_id}/resolve/{revision}/{filename}"

_ALONE = """
import socket, time
def connect(self, address, _connect=socket.socket.connect):
    assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), f"{address} is not this machine"
    return _connect(self, address)
socket.socket.connect = connect
time.sleep = lambda seconds, _sleep=time.sleep: _sleep(min(seconds, 0.01))
"""


def environment(server: Loopback, home: Path) -> dict[str, str]:
    """Variables by which both hubs' clients use this server, keep their files in ``home`` and give up quickly."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_"))}
    return kept | {
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "HF_HUB_ETAG_TIMEOUT": "5",
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms",
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",
        "MODELSCOPE_ENDPOINT": server.address,
        "MODELSCOPE_CACHE": str(home),
        "MODELSCOPE_HOME": str(home),
        "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
    }


def python(code: str, server: Loopback, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own, since both clients read their settings when imported."""
    return run_code(_ALONE + code, environment(server, home) | variables, imports=HUB_CLIENTS)


def python_from_scratch(code: str, server: Loopback, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Do what :func:`python` does, in a process that has imported nothing, PyTorch neither."""
    return subprocess.run(
        [sys.executable, "-c", _ALONE + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(server, home) | variables,
    )


@contextlib.contextmanager
def hasty(home: Path, endpoint: str | None = None, **variables: str) -> Iterator[None]:
    """Let the Hugging Face Hub's client work in this process: without waiting, without Xet, with its files in ``home``.

    Its address is ``endpoint``, or what ``HfApi(endpoint=...)`` is given.
    """
    from huggingface_hub import close_session, constants
    from huggingface_hub.utils import _http, disable_progress_bars

    clock = types.SimpleNamespace(sleep=lambda seconds: None)
    names = [name for name in os.environ if name.startswith("HF_")]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.delenv(name)
        for name, value in {"NO_PROXY": "127.0.0.1,localhost", **variables}.items():
            patch.setenv(name, value)
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(home / "hub"),
            "ENDPOINT": endpoint or constants.ENDPOINT,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{endpoint or constants.ENDPOINT}/{_FILE}",
        }.items():
            patch.setattr(constants, name, value)
        for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH"):
            patch.setattr(constants, name, str(home / name.lower()))
        patch.setattr(_http, "time", clock)
        patch.setattr(huggingface_errors, "time", clock)
        disable_progress_bars()
        close_session()
        yield
        close_session()
