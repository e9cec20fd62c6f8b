"""What a server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Measures:
    """Requests, positions, seconds and the length of the queue, in a registry of its own.

    Args:
        waiting: returns the number of requests that wait.

    Example:
        >>> measures = Measures(lambda: 3)
        >>> measures.count("score", 200, positions=128, seconds=0.2)
        >>> "kdlight_positions_total 128.0" in measures.text().decode()
        True
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "kdlight_requests", "Requests to /v1/score.", ["kind", "status"], registry=registry
        )
        self._positions = Counter(
            "kdlight_positions", "Positions that were answered.", registry=registry
        )
        self._seconds = Histogram(
            "kdlight_request_seconds",
            "Seconds from a request to its answer.",
            buckets=SECONDS,
            registry=registry,
        )
        queue = Gauge("kdlight_queue_length", "Requests that wait.", registry=registry)
        queue.set_function(waiting)

    def count(self, kind: str, status: int, *, positions: int, seconds: float) -> None:
        """Count a request, by its kind and the HTTP status of the answer."""
        self._requests.labels(kind, str(status)).inc()
        self._positions.inc(positions)
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all counts, as ``GET /metrics`` shows them."""
        return generate_latest(self._registry)
