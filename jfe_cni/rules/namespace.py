"""The rules of a workload with a network namespace of its own: no NAT, no conntrack, nothing decided once and for all.

Every TCP packet that a socket of the namespace sends to a foreign address is marked, unless the socket is the
upgrader's, and the mark routes it to the loopback device; there it is given to the upgrader. So no packet of the
application, of whatever kind, has a way to a device, and there is no first packet on which all depends. A connection
that arrives is taken for the upgrader where some socket would have had it, and left to the kernel's refusal where none.
"""

from __future__ import annotations

from jfe_cni.rules import passed
from jfe_cni.rules.model import Former, NamespaceIntent, Ruleset
from jfe_cni.rules.text import (
    OPENING,
    REFUSE,
    Chain,
    bare_arriving,
    bare_sets,
    leave_bare,
    marked,
    owner,
    set_mark,
    table_text,
)

TABLE = "jfe"
FAMILY = "inet"
TAG = "jfe namespace"


def namespace_ruleset(intent: NamespaceIntent, former: Former | None = None) -> Ruleset:
    """The table `inet jfe` for `intent`; `former` is put on record in it.

    Nothing but the table's comment names the workload: what `nft` makes of the rest serves others, too."""
    parts = [
        *bare_sets(intent.bare),
        passed.counters(),
        *(chain.text() for chain in _passing()),
        _outbound(intent).text(),
        _leaving(intent).text(),
        *(chain.text() for chain in _taking(intent)),
        _arriving(intent).text(),
    ]
    comment = record(intent.workload, former) if former else f"jfe workload {intent.workload}"
    return Ruleset(TABLE, FAMILY, table_text(FAMILY, TABLE, comment, parts), (intent.workload,))


def record(workload: str, former: Former) -> str:
    """The comment of a table that is nothing but the record of what was before."""
    return f"jfe workload {workload} {former.words()}"


def _outbound(intent: NamespaceIntent) -> Chain:
    chain = Chain("outbound", "type route hook output priority mangle", TAG)
    chain.add(f"{passed.NOT_TCP} goto passing-out", "UDP, SCTP and ICMP pass in either mode")
    chain.add(f"{owner(intent.exemption)} accept", "the exemption: nobody in the namespace can enter that cgroup")
    chain.add("fib daddr type local accept", "own addresses and loopback never leave")
    leave_bare(chain, intent.bare)
    chain.add(
        f"socket wildcard 0 {set_mark(intent.mark)} accept",
        "any full socket with an address, also one that is closed and still flushes: to the loopback",
    )
    chain.add(
        f"socket wildcard 1 meta skuid 0-4294967295 {set_mark(intent.mark)} accept",
        "raw sockets; not the kernel's own, which nobody owns",
    )
    # What is left has no full socket: SYN-ACKs, resets, answers from TIME_WAIT. None carries a byte of an application,
    # and each goes back the way that its question came by its own mark (tcp_fwmark_accept, fwmark_reflect).
    return chain


def _leaving(intent: NamespaceIntent) -> Chain:
    chain = Chain("leaving", "type filter hook postrouting priority mangle", TAG)
    chain.add(
        f'meta l4proto tcp {marked(intent.mark)} oif != "lo" counter drop',
        "the policy rule was taken away: what is marked leaves over no device all the same",
    )
    return chain


def _arriving(intent: NamespaceIntent) -> Chain:
    chain = Chain("arriving", "type filter hook prerouting priority mangle", TAG)
    chain.add(f"{passed.NOT_TCP} goto passing-in", "only TCP is upgraded")
    chain.add("iif lo goto looped", "from a socket of this namespace")
    chain.add(f"{OPENING} goto knocking", "a connection from outside")
    chain.add(f"{owner(intent.exemption)} accept", "the upgrader's connections")
    chain.add("fib daddr type != local accept", "forwarded to others, whoever listens here on that port")
    for match in bare_arriving(intent.bare):
        chain.add(f"{match} accept", "open at enrolment: bare until it ends")
    chain.add("socket wildcard 0 goto take", "a SYN cookie's last ACK must not find the application's listener,")
    chain.add("socket wildcard 1 goto take", "nor a forged segment its connection to the upgrader")
    # No full socket: a half-open connection or TIME_WAIT of the upgrader, or nothing, which the kernel answers itself.
    return chain


def _passing() -> list[Chain]:
    """Counts what is neither TCP nor for the namespace itself, and what it forwards to others in neither way."""
    sent, received = (passed.counting(way) for way in passed.WAYS)
    leaving = Chain("passing-out")
    leaving.add("fib daddr type local accept", "own addresses and loopback never leave")
    leaving.add(f"goto {sent.name}", "whoever sends it: the kernel, too (ICMP)")
    arriving = Chain("passing-in")
    arriving.add("iif lo accept", "from a socket of this namespace")
    arriving.add("fib daddr type unicast accept", "forwarded to others")
    arriving.add(f"goto {received.name}", "to an address of its own, a group or all")
    return [sent, received, leaving, arriving]


def _taking(intent: NamespaceIntent) -> list[Chain]:
    take = Chain("take")
    _hand_over(take, intent, intent.inbound_port)
    take.add("counter drop", "no upgrader: never the application in clear")

    give = Chain("give")
    _hand_over(give, intent, intent.outbound_port)
    give.add(f"{OPENING} counter drop", "no upgrader: the SYN is sent again, and finds the next one")
    give.add(REFUSE, "the connection is gone, and the application may know")

    knocking = Chain("knocking")
    knocking.add("fib daddr type != local accept", "forwarded to others, whoever listens here on that port")
    ports = f"tcp dport {{ {intent.outbound_port}, {intent.inbound_port} }}"
    knocking.add(
        f"ip daddr 127.0.0.0/8 {ports} drop", "route_localnet must not open its listeners (::1 is never routed)"
    )
    knocking.add("socket transparent 0 goto take", "some socket has it: a listener, or TIME_WAIT (on which")
    knocking.add("socket transparent 1 goto take", "`wildcard` breaks off, and behind which a listener waits)")
    # No socket: the kernel refuses, as ever.

    looped = Chain("looped")
    looped.add(f"meta mark & {intent.mark.bit:#010x} == 0 accept", "ordinary loopback")
    looped.add("fib daddr type local accept", "from the upgrader to the application")
    looped.add(f"{OPENING} goto give", "a connection to outside")
    looped.add(f"{owner(intent.exemption)} accept", "a connection that the upgrader has")
    looped.add("socket wildcard 0 goto give", "a listener of the application on the same port must not have")
    looped.add("socket wildcard 1 goto give", "a SYN cookie's last ACK")
    looped.add("socket transparent 1 accept", "the upgrader's, half-open or in TIME_WAIT: the kernel knows what to do")
    looped.add("goto give", "a SYN cookie's last ACK finds no socket but the listener")
    return [take, give, knocking, looped]


def _hand_over(chain: Chain, intent: NamespaceIntent, port: int) -> None:
    """To the upgrader's listener by its address: `tproxy to :PORT` would look on the device's own addresses."""
    chain.add(f"meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:{port}", "breaks off where nobody listens")
    if intent.ipv6:
        chain.add(f"meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:{port}", "breaks off where nobody listens")
    chain.add(f"{owner(intent.exemption)} accept", "only the upgrader's: the port may have been taken by another")
