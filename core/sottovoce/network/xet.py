"""Watching of the Hugging Face Hub's chunked store (Xet), whose client is not Python, by its progress reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sottovoce.network.attended import current
from sottovoce.network.line import Line

_OPENING = ("new_upload_commit", "new_file_download_group")
"""Methods that begin a transfer."""


class _Session:
    """Session of the store's client whose transfers are watched."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._session, name)
        line = current()
        if name not in _OPENING or line is None:
            return value
        return lambda **options: _Transfer(value, options, line)


class _Transfer:
    """Transfer that reports its progress to the line of its call, and is aborted with the call."""

    def __init__(self, opening: Callable[..., Any], options: dict[str, Any], line: Line) -> None:
        self._line = line
        self._callback = options.get("progress_callback")
        self._bytes = 0
        self._transfer = opening(**options | {"progress_callback": self._report})

    def __enter__(self) -> Any:
        from huggingface_hub.utils._xet import abort_xet_session

        self._line.at_stop(abort_xet_session)
        self._line.begin()
        return self._transfer.__enter__()

    def __exit__(self, *error: Any) -> Any:
        try:
            return self._transfer.__exit__(*error)
        finally:
            self._line.end()

    def _report(self, report: Any, items: Any = None) -> None:
        # Hashed bytes count as progress like sent ones.
        count = report.total_bytes_completed + report.total_transfer_bytes_completed
        self._line.received(self, max(count - self._bytes, 0))
        self._bytes = count
        if self._callback is not None:
            self._callback(report, items)


def attend() -> None:
    """Watch the transfers that begin from now on."""
    from huggingface_hub.utils import _xet

    sessions = getattr(_xet, "get_xet_session", None)
    if sessions is None or getattr(sessions, "attends", False):
        return  # clients before 2.0 have no sessions, and keep their own time limits

    def attended_session() -> Any:
        return _Session(sessions())

    attended_session.attends = True  # type: ignore[attr-defined]
    _xet.get_xet_session = attended_session
