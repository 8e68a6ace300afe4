"""A call ends with its result, with its error, when nothing moves, or when it is interrupted."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sottovoce.errors import SourceError
from sottovoce.network.attended import VARIABLE, attended, current, is_anything_left
from sottovoce.network.line import Abandoned
from sottovoce.network.sockets import watch

LONG = 30


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        watch(ours)
        with ours, theirs:
            yield ours, theirs


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0.3")


def test_attended_call_returns_result_or_error() -> None:
    assert attended(lambda: 7, SourceError) == 7
    with pytest.raises(ZeroDivisionError):
        attended(lambda: 1 / 0, SourceError)
    with pytest.raises(KeyboardInterrupt):
        attended(lambda: (_ for _ in ()).throw(KeyboardInterrupt), SourceError)
    assert current() is None


def test_long_work_without_waiting_is_not_ended() -> None:
    assert attended(lambda: time.sleep(0.8), SourceError) is None


def test_silence_ends_the_call_and_its_threads(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(SourceError, match="it sent almost nothing for 0.3 s"):
        attended(lambda: pair[0].recv(10), SourceError)
    assert not is_anything_left(LONG)


def test_slow_trickle_ends_the_call_and_fast_transfer_does_not(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ended = threading.Event()

    def send(content: bytes) -> None:
        while not ended.wait(0.05):
            theirs.sendall(content)

    def receive() -> None:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            ours.recv(100_000)

    for content, outcome in ((b"x" * 2000, "ends"), (b"x", "hangs")):
        ended.clear()
        thread = threading.Thread(target=send, args=(content,))
        thread.start()
        try:
            if outcome == "ends":
                attended(receive, SourceError)
            else:
                with pytest.raises(SourceError):
                    attended(receive, SourceError)
        finally:
            ended.set()
            thread.join()
    assert not is_anything_left(LONG)


def test_blocked_sending_ends_the_call(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(SourceError):
        attended(lambda: pair[0].sendall(bytes(50_000_000)), SourceError)
    assert not is_anything_left(LONG)


def test_interruption_ends_the_threads_of_a_call(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "600")
    seen: list[BaseException] = []

    def wait() -> None:
        try:
            pair[0].recv(10)
        except BaseException as error:
            seen.append(error)
            raise

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        time.sleep(0.2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            attended(wait, SourceError)
    assert not is_anything_left(LONG)
    assert [type(error) for error in seen] == [Abandoned]


def test_socket_outside_a_call_is_unaffected(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        ours.recv(10)
    ours.settimeout(None)
    theirs.sendall(b"word\n")
    with ours.makefile("rb") as file:
        assert file.readline() == b"word\n"
    ours.sendall(b"answer")
    assert theirs.recv(10) == b"answer"


def test_clients_own_timeout_is_honored(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].settimeout(0.05)
    with pytest.raises(TimeoutError):
        attended(lambda: pair[0].recv(10), SourceError)
    assert pair[0].gettimeout() == 0.05
