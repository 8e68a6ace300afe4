"""Numbers about a service, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.serving.jobs import Worker
    from sottovoce.serving.models import ServedModels


class Measures:
    """Counters of one service, in a registry of their own: two services in a process do not share them."""

    def __init__(self, models: ServedModels, worker: Worker) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self.registry = CollectorRegistry()
        # Memory, CPU time and open files of the process; only Linux has them.
        ProcessCollector(registry=self.registry)
        common: dict[str, Any] = {"registry": self.registry, "namespace": "sottovoce"}
        self._requests = Counter("requests", "Requests, by address and status.", ("path", "status"), **common)
        self._duration = Histogram(
            "request_duration_seconds",
            "Time from the request to the end of the response.",
            ("path",),
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
            **common,
        )
        self.audio_seconds = Counter("audio_seconds", "Seconds of audio that were worked on.", ("model",), **common)
        self.model_seconds = Counter("model_seconds", "Seconds that the model worked.", ("model",), **common)
        waiting = Gauge("requests_waiting", "Requests that wait for a model.", **common)
        waiting.set_function(lambda: worker.counts[0])
        running = Gauge("requests_running", "Requests that take turns in a model.", **common)
        running.set_function(lambda: worker.counts[1])
        size = Gauge("model_size_bytes", "Bytes of a model's tensors.", ("model",), **common)
        for served in models:
            size.labels(served.name).set(served.model.size_bytes)

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(path, str(status)).inc()
        self._duration.labels(path).observe(seconds)

    def count_work(self, model: str, audio_seconds: float, seconds: float) -> None:
        """Count work that a model did."""
        self.audio_seconds.labels(model).inc(audio_seconds)
        self.model_seconds.labels(model).inc(seconds)

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
