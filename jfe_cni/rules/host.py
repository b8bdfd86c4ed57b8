"""The rules of all workloads that share the host's namespace: one table, a pure function of them all.

A workload is a cgroup, and each has listeners of its own, for a redirected connection says nothing of its cgroup. What
leaves is redirected (the upgrader asks conntrack for the original destination), and marked besides: a packet that NAT
let through still never meets a device. Nothing but the workloads' own cgroups is matched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from jfe_cni.rules import passed
from jfe_cni.rules.model import Cgroup, ConnectionTuple, HostIntent, HostWorkload, Ruleset
from jfe_cni.rules.text import (
    OPENING,
    Chain,
    bare_arriving,
    bare_sets,
    leave_bare,
    marked,
    owner,
    set_mark,
    table_text,
)

TABLE = "jfe_host"
FAMILY = "inet"
TAG = "jfe host"


def host_ruleset(intent: HostIntent) -> Ruleset:
    """The table `inet jfe_host` for `intent`. Each workload has a chain `take-ID` whose comment is its tag."""
    bare = tuple(c for w in intent.workloads for c in w.bare)
    parts = [
        *bare_sets(bare),
        *(passed.counters(workload.workload) for workload in _sorted(intent)),
        *(chain.text() for chain in _passing(intent)),
        _outbound(intent, bare).text(),
        _redirected(intent).text(),
        _leaving(intent).text(),
        *(_take(intent, workload).text() for workload in _sorted(intent)),
        _knocking(intent).text(),
        _arriving(intent, bare).text(),
        _delivered(intent).text(),
    ]
    names = tuple(w.workload for w in _sorted(intent))
    return Ruleset(TABLE, FAMILY, table_text(FAMILY, TABLE, TAG, parts), names)


def _outbound(intent: HostIntent, bare: tuple[ConnectionTuple, ...]) -> Chain:
    chain = Chain("outbound", "type route hook output priority mangle", TAG)
    chain.add(f"{passed.NOT_TCP} goto passing-out", "UDP, SCTP and ICMP pass in either mode")
    bit = f"{intent.mark.bit:#010x}"
    chain.add(
        f"{owner(intent.exemption)} {marked(intent.mark)} ct mark set ct mark | {bit} accept",
        "from the upgrader to an application, in the client's name: remembered,",
    )
    chain.add(f"{owner(intent.exemption)} accept", "(the exemption: only root enters that cgroup)")
    chain.add(
        f"ct direction reply ct mark & {bit} == {bit} {set_mark(intent.mark)} accept",
        "so that the application's answers come back to the upgrader",
    )
    chain.add("fib daddr type local accept", "own addresses and loopback never leave")
    leave_bare(chain, bare)
    for level, paths in _cgroups(intent):
        workloads = f"socket cgroupv2 level {level} {{ {paths} }}"
        chain.add(
            f"{workloads} ct state {{ invalid, untracked }} counter drop",
            "what conntrack does not know is not redirected (a raw socket's), and `ct mark` breaks off on it",
        )
        chain.add(
            f"{workloads} ct mark set ct mark | {bit} {set_mark(intent.mark)} accept",
            "all else of a workload, also from raw and from closed sockets: to the loopback",
        )
    return chain


def _passing(intent: HostIntent) -> list[Chain]:
    """Counts what is neither TCP nor for this host itself, of the workloads alone.

    The kernel knows whose socket it is of all that is sent, and of UDP that arrives (net/netfilter/nft_socket.c)."""
    chains = [passed.counting(way, workload.workload) for workload in _sorted(intent) for way in passed.WAYS]
    leaving = Chain("passing-out")
    leaving.add("fib daddr type local accept", "own addresses and loopback never leave")
    arriving = Chain("passing-in")
    arriving.add("iif lo accept", "from this host itself")
    for chain, way in ((leaving, passed.WAYS[0]), (arriving, passed.WAYS[1])):
        for level, chosen in _map(intent, partial(_counting, way)):
            chain.add(
                f"socket cgroupv2 level {level} vmap {{ {chosen} }}", "its own; what is nobody's passes uncounted"
            )
    return [*chains, leaving, arriving]


def _counting(way: passed.Way, workload: HostWorkload) -> str:
    return f"goto {passed.chain_name(way, workload.workload)}"


def _redirected(intent: HostIntent) -> Chain:
    # -100 is NF_IP_PRI_NAT_DST: nft 1.0.6 knows the name `dstnat` in prerouting alone.
    chain = Chain("redirected", "type nat hook output priority -100", TAG)
    chain.add("meta l4proto != tcp accept", "only TCP is upgraded")
    chain.add(f"{owner(intent.exemption)} accept", "the exemption")
    chain.add("fib daddr type local accept", "own addresses and loopback never leave")
    for level, ports in _map(intent, lambda w: str(w.outbound_port)):
        chain.add(
            f"{OPENING} redirect to :socket cgroupv2 level {level} map {{ {ports} }}",
            "to its own listener; a bare connection that conntrack takes up in its middle is not",
        )
    return chain


def _leaving(intent: HostIntent) -> Chain:
    chain = Chain("leaving", "type filter hook postrouting priority mangle", TAG)
    # Sockets cannot be matched in postrouting. Both marks together: what others forward with this bit is not ours.
    bit = f"{intent.mark.bit:#010x}"
    chain.add(
        f'meta l4proto tcp {marked(intent.mark)} ct mark & {bit} == {bit} oif != "lo" counter drop',
        "the policy rule was taken away: what is marked leaves over no device all the same",
    )
    return chain


def _take(intent: HostIntent, workload: HostWorkload) -> Chain:
    chain = Chain(f"take-{workload.workload}", tag=f"jfe workload {workload.workload}")
    port = workload.inbound_port
    chain.add(f"meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:{port}", "`to :PORT` would find none")
    if intent.ipv6:
        chain.add(f"meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:{port}", "breaks off where nobody listens")
    chain.add(f"{owner(intent.exemption)} accept", "only the upgrader's: the port may have been taken by another")
    chain.add("counter drop", "no upgrader: never the application in clear")
    return chain


def _knocking(intent: HostIntent) -> Chain:
    chain = Chain("knocking")
    chain.add("fib daddr type != local accept", "forwarded to others, whoever listens here on that port")
    if intent.workloads:
        ports = _own_ports(intent)
        chain.add(
            f"ip daddr 127.0.0.0/8 {ports} drop", "route_localnet must not open its listeners (::1 is never routed)"
        )
    for level, chains in _map(intent, lambda w: f"goto take-{w.workload}"):
        chain.add(f"socket cgroupv2 level {level} vmap {{ {chains} }}", "a workload listens there")
    elsewhere = _elsewhere(intent)
    if elsewhere:
        chain.add(f"tcp dport vmap {{ {elsewhere} }}", "on a socket that another made for it")
    if intent.workloads:
        chain.add("socket wildcard 0 accept", "some other listener of the host: none of ours")
        chain.add("socket wildcard 1 accept", "the same, on all addresses")
        chain.add("socket transparent 1 counter drop", "TIME_WAIT of the upgrader hides who listens")
    return chain


def _arriving(intent: HostIntent, bare: tuple[ConnectionTuple, ...]) -> Chain:
    chain = Chain("arriving", "type filter hook prerouting priority mangle", TAG)
    chain.add(f"{passed.NOT_TCP} goto passing-in", "only TCP is upgraded")
    chain.add("iif lo accept", "from this host itself")
    chain.add(f"{OPENING} goto knocking", "a connection from outside")
    chain.add(f"{owner(intent.exemption)} accept", "the upgrader's connections")
    chain.add("fib daddr type != local accept", "forwarded to others, whoever listens here on that port")
    for match in bare_arriving(bare):
        chain.add(f"{match} accept", "open at enrolment: bare until it ends")
    for level, chains in _map(intent, lambda w: f"goto take-{w.workload}"):
        chain.add(
            f"socket cgroupv2 level {level} vmap {{ {chains} }}",
            "a SYN cookie's last ACK, or a forged segment: not for the application",
        )
    elsewhere = _elsewhere(intent)
    if elsewhere:
        chain.add(f"socket wildcard 0 tcp dport vmap {{ {elsewhere} }}", "the same, for sockets that others made")
        chain.add(f"socket wildcard 1 tcp dport vmap {{ {elsewhere} }}", "(a half-open connection has no full socket)")
    return chain


def _delivered(intent: HostIntent) -> Chain:
    chain = Chain("delivered", "type filter hook input priority mangle", TAG)
    if intent.workloads:
        to_us = f"{_own_ports(intent)} {OPENING}"
        exempt = owner(intent.exemption)
        chain.add(f'iif "lo" ip daddr 127.0.0.1 {to_us} {exempt} accept', "a redirected connection is the upgrader's,")
        chain.add(f'iif "lo" ip6 daddr ::1 {to_us} {exempt} accept', "and nobody's who bound the port after it died:")
        for address in ("ip daddr 127.0.0.1", "ip6 daddr ::1"):
            chain.add(f'iif "lo" {address} {to_us} counter reject with tcp reset', "refused at once")
    return chain


def _sorted(intent: HostIntent) -> list[HostWorkload]:
    return sorted(intent.workloads, key=lambda w: w.workload)


def _own_ports(intent: HostIntent) -> str:
    ports = sorted(port for w in intent.workloads for port in (w.outbound_port, w.inbound_port))
    return f"tcp dport {{ {', '.join(map(str, ports))} }}"


def _elsewhere(intent: HostIntent) -> str:
    pairs = sorted((port, w.workload) for w in intent.workloads for port in w.listener_ports)
    return ", ".join(f"{port} : goto take-{workload}" for port, workload in pairs)


def _by_level(intent: HostIntent) -> Iterator[tuple[int, list[HostWorkload]]]:
    """Deepest first: where one workload's cgroup lies below another's, the nearer one decides."""
    for level in sorted({w.cgroup.level for w in intent.workloads}, reverse=True):
        here = [w for w in intent.workloads if w.cgroup.level == level]
        yield level, sorted(here, key=lambda w: w.cgroup.path)


def _cgroups(intent: HostIntent) -> Iterator[tuple[int, str]]:
    for level, here in _by_level(intent):
        yield level, ", ".join(_path(w.cgroup) for w in here)


def _map(intent: HostIntent, data: Callable[[HostWorkload], str]) -> Iterator[tuple[int, str]]:
    for level, here in _by_level(intent):
        yield level, ", ".join(f"{_path(w.cgroup)} : {data(w)}" for w in here)


def _path(cgroup: Cgroup) -> str:
    return f'"{cgroup.path}"'
