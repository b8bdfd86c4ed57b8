"""What Prometheus reads: one registry an agent, fed by the upgrader's counters and the agent's own events."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from jfe_cni.agent.messages import Counters
from jfe_cni.agent.reports import WorkloadReport

# Several times the minute at which Prometheus asks by default: the last figures of what has gone are read.
KEPT_SECONDS = 600.0

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """`workloads` gives the state that gauges show at the moment they are read."""

    def __init__(self, workloads: Callable[[], Iterable[WorkloadReport]]) -> None:
        self._registry = CollectorRegistry()
        self._workloads = workloads
        self._gone_since: dict[str, float | None] = {}
        self._connections = Counter(
            "jfe_connections",
            "Connections by what was decided.",
            ["workload", "direction", "decision", "reason"],
            registry=self._registry,
        )
        self._bytes = Counter(
            "jfe_bytes",
            "Plaintext bytes; sent: from the workload to its peer.",
            ["workload", "direction_of_bytes"],
            registry=self._registry,
        )
        self.rules_mended = Counter(
            "jfe_rules_mended", "Rulesets found changed by others and loaded anew.", registry=self._registry
        )
        self.upgrader_restarts = Counter(
            "jfe_upgrader_restarts", "Upgraders started because the one before had ended.", registry=self._registry
        )
        self.worker_restarts = Counter(
            "jfe_worker_restarts", "Workers of the upgrader that ended and were replaced.", registry=self._registry
        )
        self.certificate_refusals = Counter(
            "jfe_certificate_refusals",
            "Certificates that were asked for and not signed: budget-spent, away, refused.",
            ["reason"],
            registry=self._registry,
        )
        self._handshakes = _Handshakes()
        self._registry.register(self._handshakes)
        self._registry.register(_Workloads(workloads))

    def include(self, collector: Collector) -> None:
        """Whatever else is served beside the agent's own."""
        self._registry.register(collector)

    def take(self, counters: Counters) -> None:
        """Adds the increments of one event."""
        for each in counters.counters:
            self._connections.labels(each.workload, each.direction, each.decision, each.reason).inc(each.connections)
            self._bytes.labels(each.workload, "sent").inc(each.bytes_sent)
            self._bytes.labels(each.workload, "received").inc(each.bytes_received)
            self._handshakes.add(each.workload, each.handshakes, each.handshake_microseconds)
            self._gone_since.setdefault(each.workload, None)

    def sweep(self, now: float) -> None:
        """Forgets workloads that have been gone for long: containers come and go without end. `now`: any clock in
        seconds that goes on."""
        there = {workload.id for workload in self._workloads()}
        for workload, gone_since in list(self._gone_since.items()):
            if workload in there:
                self._gone_since[workload] = None
            elif gone_since is None:
                self._gone_since[workload] = now
            elif now - gone_since >= KEPT_SECONDS:
                self._forget(workload)

    def _forget(self, workload: str) -> None:
        for family in (self._connections, self._bytes):
            family.remove_by_labels({"workload": workload})
        self._handshakes.forget(workload)
        del self._gone_since[workload]

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Handshakes(Collector):
    """A summary of sum and count: the upgrader sends totals, not single observations."""

    def __init__(self) -> None:
        self._count: Tally[str] = Tally()
        self._microseconds: Tally[str] = Tally()

    def add(self, workload: str, count: int, microseconds: int) -> None:
        self._count[workload] += count
        self._microseconds[workload] += microseconds

    def forget(self, workload: str) -> None:
        del self._count[workload], self._microseconds[workload]

    def collect(self) -> Iterable[Metric]:
        family = SummaryMetricFamily("jfe_handshake_seconds", "Time of TLS handshakes.", labels=["workload"])
        for workload, count in self._count.items():
            family.add_metric([workload], count_value=count, sum_value=self._microseconds[workload] / 1e6)
        yield family


class _Workloads(Collector):
    def __init__(self, workloads: Callable[[], Iterable[WorkloadReport]]) -> None:
        self._workloads = workloads

    def collect(self) -> Iterable[Metric]:
        enrolled = GaugeMetricFamily("jfe_workloads", "Enrolled workloads.", labels=["mode", "state"])
        expiry = GaugeMetricFamily(
            "jfe_certificate_expiry_seconds", "When the certificate expires, since the epoch.", labels=["workload"]
        )
        bare = GaugeMetricFamily(
            "jfe_bare_connections", "Connections older than the enrolment, without cover.", labels=["workload"]
        )
        whole = GaugeMetricFamily("jfe_rules_whole", "Whether the rules are as they should be.", labels=["workload"])
        packets = CounterMetricFamily(
            "jfe_passed_packets", "Packets of protocols that are not covered.", labels=["workload", "way", "protocol"]
        )
        size = CounterMetricFamily(
            "jfe_passed_bytes", "Bytes of these, from the IP header on.", labels=["workload", "way", "protocol"]
        )
        tally: Tally[tuple[str, str]] = Tally()
        for workload in self._workloads():
            tally[workload.mode, workload.state] += 1
            bare.add_metric([workload.id], len(workload.bare))
            whole.add_metric([workload.id], 1 if workload.rules_whole else 0)
            for passed in workload.passed:
                packets.add_metric([workload.id, passed.way, passed.protocol], passed.packets)
                size.add_metric([workload.id, passed.way, passed.protocol], passed.bytes)
            if workload.certificate_expires is not None:
                expiry.add_metric([workload.id], workload.certificate_expires)
        for (mode, state), count in tally.items():
            enrolled.add_metric([mode, state], count)
        yield from (enrolled, expiry, bare, whole, packets, size)
