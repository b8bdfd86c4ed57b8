"""What Prometheus reads. Labels are operations and outcomes, of which there are few: never a name."""

from __future__ import annotations

from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From what a counted attempt takes on a fast disk to the default time limit.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One registry a service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ratelock_requests", "Requests by what was asked and what came of it.", ["operation", "outcome"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "ratelock_request_seconds",
            "Time until the answer.",
            ["operation"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.running = Gauge("ratelock_requests_running", "Requests being served.", registry=self._registry)

    def take(self, operation: str, outcome: str, seconds: float) -> None:
        self._requests.labels(operation, outcome).inc()
        self._seconds.labels(operation).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


def outcome_of(status: int) -> str:
    """Where the operation itself has not said more."""
    if status < HTTPStatus.BAD_REQUEST:
        return "done"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "spent"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "refused"
    return "unfit" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"
