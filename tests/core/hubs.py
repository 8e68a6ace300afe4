"""A hub on this machine: as much of the Hugging Face Hub's and ModelScope's protocols as their clients download by."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from forked import run_code

COMMIT = "a" * 40
"""The newest commit of every repository; all branches and tags mean it."""
EARLIER = "b" * 40
"""The commit that changed all files but the first."""
EVIL = b"what a hostile hub gives"
TESTS = Path(__file__).parents[1]

_LOOPBACK_ONLY = """
import socket
_connect = socket.socket.connect
def connect(self, address):
    assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), f"{address} is not this machine"
    return _connect(self, address)
socket.socket.connect = connect
"""


@dataclass
class Hub:
    """A running hub."""

    address: str
    repositories: dict[str, Path] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    """The tokens that open the repositories that are private."""
    broken: set[str] = field(default_factory=set)
    """Repositories that the hub fails to give."""
    listed: dict[str, list[str]] = field(default_factory=dict)
    """Names that the hub lists beside a repository's files; it gives some content for each."""
    hides_first: bool = False
    """Whether the first listing of a repository is without them."""
    requests: list[str] = field(default_factory=list)
    """Method and path of every request."""

    def environment(self, home: Path) -> dict[str, str]:
        """Variables by which both clients use this hub, keep their files in ``home`` and give up quickly."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_"))}
        return kept | {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home),
            "MODELSCOPE_ENDPOINT": self.address,
            "MODELSCOPE_CACHE": str(home),
            "MODELSCOPE_HOME": str(home),
            "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
        }


def python(code: str, hub: Hub, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own, since both clients read their settings when imported."""
    return run_code(_LOOPBACK_ONLY + code, hub.environment(home) | environment)


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """A hub on a free port of the loopback interface."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.hub = hub = Hub(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = unquote(url.path).strip("/").split("/")
        if parts[:2] == ["api", "v1"]:
            self._modelscope(parts[2:], query)
        elif parts[:2] == ["api", "models"]:
            self._hugging_face_api(parts[2:])
        else:
            self._hugging_face_file(parts)

    def _repository(self, parts: list[str]) -> Path | None:
        """The repository's directory, or ``None`` once an error is sent."""
        name = "/".join(parts[:2])
        directory, token = self.hub.repositories.get(name), self.hub.tokens.get(name)
        if name in self.hub.broken:
            self._send(500, b"broken")
        elif token and self.headers.get("Authorization") != f"Bearer {token}":
            self._json({"error": "Invalid username or password.", "Code": 401, "Message": "no access"}, 401)
        elif directory is None:
            form = {"error": "Repository not found", "Code": 10010205001, "Message": "record not found"}
            self._json(form, 404, {"X-Error-Code": "RepoNotFound"})
        else:
            return directory
        return None

    def _hugging_face_api(self, parts: list[str]) -> None:
        if (directory := self._repository(parts)) is None:
            return
        if parts[2] == "tree":
            self._json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": _digest(content)}
                    for name, content in self._listing(directory, parts).items()
                ]
            )
        elif parts[-1] in ("main", "v1", COMMIT):
            self._json({"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": [], "tags": []})
        else:
            self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})

    def _hugging_face_file(self, parts: list[str]) -> None:
        if (directory := self._repository(parts)) is None:
            return
        path = directory / "/".join(parts[4:])
        content = path.read_bytes() if path.is_file() else EVIL
        self._send(200, content, {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT})

    def _modelscope(self, parts: list[str], query: dict[str, str]) -> None:
        if parts[0] != "models":
            self._json({"Code": 404, "Message": "no such path"}, 404)
        elif (directory := self._repository(parts[1:])) is None:
            return
        elif query.get("Revision") not in ("master", "v1", COMMIT):
            self._json({"Code": 10010201001, "Message": "no such revision"}, 404)
        elif parts[-1] == "files":
            files = [
                {
                    "Path": name,
                    "Name": Path(name).name,
                    "Type": "blob",
                    "Size": len(content),
                    "Sha256": hashlib.sha256(content).hexdigest(),
                    "Revision": EARLIER if number else COMMIT,
                    "CommittedDate": 1700000000 - number,
                }
                for number, (name, content) in enumerate(self._listing(directory, parts[1:]).items())
            ]
            self._json({"Code": 200, "Success": True, "Message": "success", "Data": {"Files": files}})
        else:
            path = directory / query["FilePath"]
            self._send(200, path.read_bytes() if path.is_file() else EVIL)

    def _listing(self, directory: Path, parts: list[str]) -> dict[str, bytes]:
        name = "/".join(parts[:2])
        hidden = self.hub.hides_first and sum(f"/{name}/" in request for request in self.hub.requests) == 1
        return _files(directory) | dict.fromkeys(() if hidden else self.hub.listed.get(name, ()), EVIL)

    def _json(self, form: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(form).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _files(directory: Path) -> dict[str, bytes]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
