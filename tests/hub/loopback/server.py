"""An HTTP server on the loopback interface that writes down what it is asked, and fails when it is told to."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

PATIENCE = 30
"""Seconds that a connection may be idle."""

How = Literal[
    "refuse",
    "cut before",
    "cut during",
    "cut after",
    "cut answer",
    "flip",
    "spoil",
    "silent",
    "stall",
    "drip",
    "drip head",
]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asked."""

    method: str
    target: str
    """Path and query as sent."""
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @cached_property
    def parts(self) -> list[str]:
        """The path's segments; one may hold a slash of its own, as ``refs%2Fpr%2F1``."""
        return [unquote(part) for part in urlsplit(self.target).path.strip("/").split("/")]

    @cached_property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def address(self) -> str:
        """The server's address, as the client knows it."""
        return f"http://{self.headers['Host']}"

    @property
    def token(self) -> str | None:
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return token if kind == "Bearer" else None

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server says; a body that is no bytes is sent as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(kw_only=True)
class Fault:
    """What goes wrong with the requests that match, once ``after`` of them went well.

    ``refuse`` answers with ``status`` and does nothing; ``cut before`` and ``cut during`` close the connection before
    or in the middle of the request's body; ``cut after`` does what was asked and closes without a word, ``cut answer``
    in the middle of the answer; ``flip`` changes one byte of the answer's body, ``spoil`` one of the request's.
    ``silent`` says nothing and keeps the connection, ``stall`` stops in the middle of the answer's body, ``drip`` sends
    that a byte at a time, and ``drip head`` a head that does not end.
    """

    how: How
    method: str = ""
    path: str = ""
    """A pattern that is searched in path and query."""
    after: int = 0
    times: int = 1
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = b""
    happened: int = 0

    def strikes(self, method: str, target: str) -> bool:
        """Whether this request fails; counts."""
        if self.happened >= self.times or self.method not in ("", method) or not re.search(self.path, target):
            return False
        if self.after:
            self.after -= 1
            return False
        self.happened += 1
        return True


@dataclass(kw_only=True)
class Record:
    """A request that came in."""

    method: str
    target: str
    received: int = 0
    """Bytes of its body that were read."""
    status: int | None = None
    """What was answered; ``None`` when the connection was cut."""

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass
class Loopback:
    """A running server."""

    address: str
    application: Callable[[Request], Answer]
    records: list[Record] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while the application works: it may keep its state in plain dictionaries."""
    connections: set[socket.socket] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)
    """Ends what hangs."""

    def fail(self, how: How, method: str = "", path: str = "", **details: Any) -> Fault:
        """Plan a fault; see :class:`Fault`."""
        self.faults.append(fault := Fault(how=how, method=method, path=path, **details))
        return fault

    def recorded(self, method: str = "", path: str = "") -> list[Record]:
        """The requests so far, of a method, with a pattern in path and query."""
        return [record for record in self.records if method in ("", record.method) and re.search(path, record.target)]

    def begin(self, method: str, target: str) -> tuple[Record, Fault | None]:
        """Write a request down, and find what goes wrong with it."""
        with self.lock:
            self.records.append(record := Record(method=method, target=target))
            return record, next((fault for fault in self.faults if fault.strikes(method, target)), None)

    def hang_up(self) -> None:
        """Close every connection, those that a client keeps for later too."""
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serve(application: Callable[[Request], Answer]) -> Iterator[Loopback]:
    """Serve on a free port of 127.0.0.1."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.loopback = loopback = Loopback(f"http://127.0.0.1:{server.server_port}", application)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield loopback
        finally:
            loopback.closed.set()
            server.shutdown()
            thread.join()
            loopback.hang_up()


def ranged(request: Request, content: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """``content``, or the part of it that the request's ``Range`` asks for."""
    headers = {"Accept-Ranges": "bytes", **(headers or {})}
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range") or "")
    if wanted is None or wanted[0] == "bytes=-":
        return Answer(body=content, headers=headers)
    size = len(content)
    first = int(wanted[1]) if wanted[1] else max(size - int(wanted[2]), 0)
    last = min(int(wanted[2]), size - 1) if wanted[1] and wanted[2] else size - 1
    if first > last:
        return Answer(status=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Answer(status=206, body=content[first : last + 1], headers=headers)


def _changed(content: bytes) -> bytes:
    """``content`` with another bit in its middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else content


class _Cut(Exception):
    """The connection is to be closed."""


class _Handler(BaseHTTPRequestHandler):
    loopback: Loopback
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.loopback.lock:
            self.loopback.connections.add(self.connection)

    def finish(self) -> None:
        with self.loopback.lock:
            self.loopback.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *arguments: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def work(self) -> None:
        record, fault = self.loopback.begin(self.command, self.path)
        how = fault.how if fault else None
        self.close_connection = how is not None and how.startswith("cut")
        with contextlib.suppress(_Cut):
            body = self.read(record, how)
            body = _changed(body) if how == "spoil" else body
            if fault and how == "refuse":
                answer = Answer(status=fault.status, headers=fault.headers, body=fault.body)
            else:
                request = Request(method=self.command, target=self.path, headers=self.headers, body=body)  # type: ignore[arg-type]
                with self.loopback.lock:
                    answer = self.loopback.application(request)
            if how == "cut after":
                raise _Cut
            if how in ("silent", "drip head"):
                self.hang(b"HTTP/1.1 200 OK\r\nX-Long: ".ljust(5000, b"x") if how == "drip head" else b"")
            record.status = None if how == "cut answer" else answer.status
            self.send(answer, how)

    do_HEAD = do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = work

    def read(self, record: Record, how: How | None) -> bytes:
        """The request's body."""
        if how == "cut before":
            raise _Cut
        if (self.headers.get("Transfer-Encoding") or "").lower() == "chunked":
            pieces = list(self.chunks(record))
            if how == "cut during":
                raise _Cut
            return b"".join(pieces)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length // 2 if how == "cut during" else length)
        record.received = len(body)
        if how == "cut during" or len(body) < length:
            raise _Cut
        return body

    def chunks(self, record: Record) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            piece = self.rfile.read(size)
            record.received += len(piece)
            yield piece
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def send(self, answer: Answer, how: How | None) -> None:
        content = _changed(answer.content) if how == "flip" else answer.content
        self.send_response(answer.status, HTTPStatus(answer.status).phrase)
        kind = "application/octet-stream" if isinstance(answer.body, bytes) else "application/json"
        length = {"Transfer-Encoding": "chunked"} if answer.chunked else {"Content-Length": str(len(content))}
        for name, value in {"Content-Type": kind, **length, **answer.headers}.items():
            self.send_header(name, value)
        if how == "cut answer" and not content:
            raise _Cut  # The head was not sent yet.
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.chunked:
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"
        if how == "stall":
            self.wfile.write(content[: len(content) // 2])
            self.hang(b"")
        if how == "drip":
            self.hang(content)
        self.wfile.write(content[: len(content) // 2] if how == "cut answer" else content)

    def hang(self, content: bytes) -> NoReturn:
        """Send a byte at a time, and then nothing, until the server ends."""
        self.wfile.flush()
        for place in range(len(content)):
            if self.loopback.closed.wait(0.05):
                break
            self.wfile.write(content[place : place + 1])
            self.wfile.flush()
        self.loopback.closed.wait()
        self.close_connection = True
        raise _Cut
