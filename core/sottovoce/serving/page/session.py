"""Work that visitors of the page have running: they can stop it, and it stops when they leave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio import Request

    from sottovoce.serving.jobs import Done, Job, Ready
    from sottovoce.serving.service import Service, Work


class Sessions:
    """The running jobs of each visitor."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._jobs: dict[str, set[Job]] = {}

    def run(self, request: Request, work: Work) -> Iterator[Ready | Done]:
        """Yield the events of work; the visitor can stop it.

        Raises:
            ApiError: As :meth:`sottovoce.serving.jobs.Worker.run`.
        """
        session = str(request.session_hash)
        jobs: list[Job] = []

        def started(job: Job) -> None:
            jobs.append(job)
            with self._lock:
                self._jobs.setdefault(session, set()).add(job)

        try:
            yield from self._service.worker.run(work, started)
        finally:
            with self._lock:
                remaining = self._jobs.get(session, set())
                remaining.difference_update(jobs)
                if not remaining:
                    self._jobs.pop(session, None)

    def stop(self, request: Request) -> None:
        """Cancel what a visitor has running."""
        with self._lock:
            jobs = list(self._jobs.get(str(request.session_hash), ()))
        for job in jobs:
            job.cancel()
