"""What is counted of collecting, for Prometheus. The thread that collects counts; a scrape reads what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from jfe_cni.overflowd.collector.udp import UdpSocket
from jfe_cni.overflowd.decoders import Format
from jfe_cni.overflowd.dropped import Drops
from jfe_cni.overflowd.notices.notice import Class


@dataclass(eq=False)
class Counts(Collector):
    """`datagrams`, `octets`: by port. `unsampled`: flows whose sampling was not told. `packets`: that flows stand for.
    `put_failures`: tries to put notices that the outbox refused for now. `lost`: notices that it had not taken when all
    had to end. `drops`: of several, by the same reasons."""

    sockets: Sequence[UdpSocket] = ()
    drops: Sequence[Drops] = ()
    datagrams: Counter[int] = field(default_factory=Counter)
    octets: Counter[int] = field(default_factory=Counter)
    flows: Counter[Format] = field(default_factory=Counter)
    unsampled: Counter[Format] = field(default_factory=Counter)
    packets: float = 0
    notices: Counter[Class] = field(default_factory=Counter)
    put_failures: int = 0
    lost: int = 0

    @property
    def dropped(self) -> Drops:
        return sum((Counter(dict(each)) for each in self.drops), Drops())

    def collect(self) -> Iterator[CounterMetricFamily]:
        for name, about, label, values in (
            ("datagrams", "Datagrams that were read.", "port", self.datagrams),
            ("octets", "Octets of the datagrams that were read.", "port", self.octets),
            ("kernel_dropped", "Datagrams that came and found no room, as the kernel tells with the next that does.",
             "port", self._by_port(lambda each: each.dropped)),
            ("cut_off", "Datagrams that were too long.", "port", self._by_port(lambda each: each.cut_off)),
            ("dropped", "What was not decoded: datagrams, sets, records or samples.", "reason", self.dropped),
            ("flows", "Flows that were decoded.", "format", self.flows),
            ("flows_sampling_unknown", "Flows whose sampling was not told: as if each packet had been looked at.",
             "format", self.unsampled),
            ("notices", "Notices that were chosen.", "class", self.notices),
        ):  # fmt: skip
            yield _family(name, about, label, values)
        for name, about, value in (
            ("packets", "Packets that the flows stand for, each as often as it was told of.", self.packets),
            ("put_failures", "Tries to put notices into the outbox that failed.", self.put_failures),
            ("notices_lost", "Notices that the outbox had not taken when the collector had to end.", self.lost),
        ):
            yield CounterMetricFamily(f"overflowd_{name}", about, value=value)

    def _by_port(self, count: Callable[[UdpSocket], int]) -> Counter[int]:
        """Two addresses may have one port."""
        found = Counter[int]()
        for each in self.sockets:
            found[each.port] += count(each)
        return found


def _family(name: str, about: str, label: str, values: Mapping[Any, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"overflowd_{name}", about, labels=[label])
    # Of a dict that another thread adds to: copied in one step.
    for key, value in dict(values).items():
        family.add_metric([str(key)], value)
    return family
