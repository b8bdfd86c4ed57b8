"""What is counted of the delivery, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from jfe_cni.overflowd.delivery.outcomes import Outcome, Told, Way


class Counts:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._copies = Counter(
            "overflowd_copies",
            "Copies of notices that came to an end: how, why, and by which way.",
            ["state", "reason", "way"],
            registry=registry,
        )
        self.put = Counter("overflowd_copies_put", "Copies that were put into the outbox.", registry=registry)
        self._tries = Counter(
            "overflowd_tries", "Ways that were tried, and what was heard.", ["way", "heard"], registry=registry
        )
        self._octets = Counter(
            "overflowd_sent_octets", "Octets that were sent for notices, at most.", ["way"], registry=registry
        )
        self.waiting = Gauge("overflowd_copies_waiting", "Copies that wait, of all collectors.", registry=registry)
        self.sending = Gauge("overflowd_copies_sending", "Copies that this collector sends.", registry=registry)

    def ended(self, outcome: Outcome, many: int = 1) -> None:
        self._copies.labels(outcome.state, outcome.reason or "", outcome.way or "").inc(many)

    def tried(self, way: Way, heard: Told, octets: int) -> None:
        self._tries.labels(way, heard).inc()
        self._octets.labels(way).inc(octets)
