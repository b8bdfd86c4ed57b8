"""What is told of the node's flows, and what is not and why, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jfe_cni.agent.flows.flow import Origin
from jfe_cni.agent.flows.unsent import Absent, Unsent, Unsents


class FlowCounts(Collector):
    """`remembered` and `absent`: asked when metrics are read."""

    def __init__(self) -> None:
        self.sent: Counter[Origin] = Counter()
        self.messages = 0
        self.unsent: Unsents = Counter()
        self.remembered: Callable[[Origin], int] = lambda _: 0
        self.absent: Callable[[], Absent | None] = lambda: None

    def collect(self) -> Iterable[Metric]:
        sent = CounterMetricFamily("jfe_flows_sent", "Flows handed to the kernel, as IPFIX.", labels=["origin"])
        remembered = GaugeMetricFamily(
            "jfe_flows_remembered", "Connections and conntrack's entries that are followed.", labels=["origin"]
        )
        for origin in Origin:
            sent.add_metric([origin], self.sent[origin])
            remembered.add_metric([origin], self.remembered(origin))
        messages = CounterMetricFamily("jfe_flows_messages", "Datagrams of IPFIX.", value=self.messages)
        unsent = CounterMetricFamily("jfe_flows_unsent", "What was not told, by its reason.", labels=["reason"])
        for reason in Unsent:
            unsent.add_metric([reason], self.unsent[reason])
        absent = GaugeMetricFamily(
            "jfe_flows_conntrack_absent", "1: conntrack's flows are not there, for this reason.", labels=["reason"]
        )
        why = self.absent()
        for each in Absent:
            absent.add_metric([each], float(each is why))
        yield from (sent, remembered, messages, unsent, absent)
