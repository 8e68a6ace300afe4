"""Watching of the Hugging Face Hub's client: time limits for its connections, and checks of its answers."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sottovoce.errors import SourceError
from sottovoce.network import xet
from sottovoce.network.attended import current
from sottovoce.network.line import Line
from sottovoce.network.logs import clean_logs
from sottovoce.network.sockets import watch
from sottovoce.network.wording import shown

COMMIT = re.compile(r"[0-9a-f]{40}")

_ETAG = re.compile(r"(?:W/)?\"?[0-9A-Za-z][\w.+=-]{0,199}\"?", re.ASCII)
"""Valid names of files in the cache: no path, no ``..``."""
_CHECKED = {"ETag": _ETAG, "X-Linked-Etag": _ETAG, "X-Repo-Commit": COMMIT}
_PAGES = 1000
"""Most pages of a listing; each has a thousand files, and a hub could name a next page forever."""
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class _Attending:
    """Factory of HTTP clients that watches those of another factory."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory

    def __call__(self) -> Any:
        client = self._factory()
        hooks = client.event_hooks
        client.event_hooks = hooks | {
            "request": [*hooks.get("request", ()), _begin],
            "response": [*hooks.get("response", ()), _check],
        }
        return client


def attend(token: str | None) -> None:
    """Watch the client's connections from now on, and its transfers to and from the chunked store.

    Args:
        token: Token of the call, which is removed from the client's logs.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    xet.attend()
    clean_logs("huggingface_hub", token)
    factory = _http._GLOBAL_CLIENT_FACTORY
    if not isinstance(factory, _Attending):
        set_client_factory(_Attending(factory))


def _begin(request: Any) -> None:
    """Watch the connection that a request opens, and set the time limits that it lacks."""
    line = current()
    request.extensions.setdefault("trace", partial(_trace, line))
    if line is not None:
        line.check()
        limits = request.extensions.get("timeout", {})
        # The line is dead before these limits, which end requests of abandoned calls.
        request.extensions["timeout"] = {
            name: 2 * line.limit if limits.get(name) is None else limits[name] for name in ("connect", "read", "write")
        } | {"pool": limits.get("pool")}


def _trace(line: Line | None, event: str, details: dict[str, Any]) -> None:
    step, _, state = event.rpartition(".")
    if not step.endswith(("connect_tcp", "start_tls")):
        return
    if state == "complete":
        watch(details["return_value"].get_extra_info("socket"))
    if line is not None:
        line.begin() if state == "started" else line.end()


def _check(response: Any) -> None:
    """Check the values of an answer that the client would use in paths.

    Raises:
        SourceError: A value is neither a digest nor a commit's id, or a listing does not end.
    """
    line = current()
    if line is None:
        return
    _shorten_wait(response.headers, line.limit)
    for name, pattern in _CHECKED.items():
        if (value := response.headers.get(name)) is not None and not pattern.fullmatch(value):
            raise _refused(f"the header {name} {value!r}")
    if "/tree/" in response.url.path:
        line.pages += 1
        if line.pages > _PAGES:
            raise SourceError(f"the hub lists more than {_PAGES} pages of files, which no model has")
    if response.is_success and response.url.path.startswith("/api/models/"):
        response.read()
        with contextlib.suppress(ValueError, RecursionError):  # the client reports invalid JSON itself
            for name, value in _digests(json.loads(response.content)):
                if value is not None and not (isinstance(value, str) and _DIGEST.fullmatch(value)):
                    raise _refused(f"{name} {value!r}")


def _digests(form: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of commits and contents in an answer about a repository."""
    if isinstance(form, dict):
        yield from ((name, form.get(name)) for name in ("sha", "commitOid"))
    for entry in form if isinstance(form, list) else ():
        if isinstance(entry, dict):
            yield "oid", entry.get("oid")
            large = entry.get("lfs")
            yield "lfs.oid", large.get("oid") if isinstance(large, dict) else None


def _shorten_wait(headers: Any, limit: float) -> None:
    """Limit the pause that the hub asks for to ``limit`` seconds; the client would sleep for days."""
    for name in ("Retry-After", "RateLimit"):
        pause = re.fullmatch(r"(?:.*;\s*t=)?(\d+)\s*", headers.get(name) or "")
        if pause and int(pause[1][:18]) > limit:
            del headers[name]
            headers["Retry-After"] = str(int(limit))


def _refused(what: str) -> SourceError:
    value = shown(what, longest=150)
    return SourceError(f"the hub answers with {value}, which is not a valid digest: nothing is stored under it")
