"""What Prometheus reads. Labels are reasons, of which there is a closed list: never a name or an address."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from jfe_cni.overflowd.receiver.intake import Challenged, Decision, KeyNeeded, NotTaken, Reason
from jfe_cni.overflowd.receiver.key_fetching import Unfetched
from jfe_cni.overflowd.receiver.pins import Keys, Pinning

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TAKEN, CHALLENGED, FETCHED, FAILED = "taken", "challenged", "fetched", "failed"


class Metrics:
    """One registry a receiver."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._notices = self._counter("notices", "What came, by what became of it.", "outcome")
        self._keys = self._counter("key_fetches", "Keys that were asked for, by what came of it.", "outcome")
        self._pins = self._counter("pins", "Keys that were published, by whether they are believed.", "outcome")
        self._dropped = Counter(
            "overflowd_receiver_dropped_datagrams", "By the kernel, for want of room.", registry=self._registry
        )
        self._webhooks = self._counter("webhooks", "Floods and changed keys, by what became of it.", "outcome")
        self.readers = Gauge("overflowd_receiver_event_readers", "Who reads /events.", registry=self._registry)
        self.unreadable = Gauge(
            "overflowd_receiver_unreadable_notices",
            "Kept ones that this release can't read, as often as they were met.",
            registry=self._registry,
        )
        self.floods = Gauge("overflowd_receiver_floods", "Floods that are shown.", registry=self._registry)

    def _counter(self, name: str, what: str, label: str) -> Counter:
        return Counter(f"overflowd_receiver_{name}", what, [label], registry=self._registry)

    def decided(self, decision: Decision) -> None:
        match decision:
            case NotTaken(reason):
                self.untaken(reason)
            case Challenged() | KeyNeeded():
                self._notices.labels(CHALLENGED).inc()
            case _:
                self._notices.labels(TAKEN).inc()

    def untaken(self, reason: Reason) -> None:
        self._notices.labels(reason.value).inc()

    def failed(self) -> None:
        """It could not be kept."""
        self._notices.labels(FAILED).inc()

    def dropped(self, count: int) -> None:
        """Datagrams."""
        self._dropped.inc(count)

    def fetched(self, keys: Keys | Unfetched) -> None:
        self._keys.labels(keys.value if isinstance(keys, Unfetched) else FETCHED).inc()

    def pinned(self, outcome: Pinning) -> None:
        self._pins.labels(outcome.value).inc()

    def webhook(self, outcome: str) -> None:
        self._webhooks.labels(outcome).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
