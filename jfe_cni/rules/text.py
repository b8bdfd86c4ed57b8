"""How a ruleset is written: tables replaced whole, each rule below its reason, the same text for the same intent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jfe_cni.rules.model import Cgroup, ConnectionTuple, Mark

COMMENT_LIMIT = 128
"""NFTNL_UDATA_COMMENT_MAXLEN of libnftnl: a longer comment of a table or chain is refused."""

OPENING = "tcp flags & (syn | ack | rst) == syn"
"""A packet that asks for a connection (RFC 9293, 3.10.7.2: with ACK or RST a listener does not take it)."""

REFUSE = "counter reject with tcp reset"


@dataclass
class Chain:
    """A chain under construction: `hook` is empty for one that others jump to."""

    name: str
    hook: str = ""
    tag: str = ""
    lines: list[tuple[str, str]] = field(default_factory=list)

    def add(self, rule: str, reason: str) -> None:
        """One rule, and why it is there."""
        self.lines.append((rule, reason))

    def text(self) -> str:
        head = [f"\t\tcomment {quoted(self.tag)}"] if self.tag else []
        if self.hook:
            head.append(f"\t\t{self.hook}; policy accept;")
        body = [f"\t\t# {reason}\n\t\t{rule}" for rule, reason in self.lines]
        return "\n".join([f"\tchain {self.name} {{", *head, *body, "\t}"])


def table_text(family: str, table: str, comment: str, parts: Sequence[str]) -> str:
    """A transaction that replaces the table, whether it exists or not."""
    return "\n".join(
        [
            f"add table {family} {table}",
            f"delete table {family} {table}",
            f"table {family} {table} {{",
            f"\tcomment {quoted(comment)}",
            "",
            "\n\n".join(parts),
            "}",
            "",
        ]
    )


def quoted(text: str) -> str:
    """`text` as an nft string. nft knows no escapes: what cannot be said is a mistake of the code that asks for it."""
    if not text or len(text.encode()) >= COMMENT_LIMIT or any(c in '"\\\n' or not c.isprintable() for c in text):
        raise ValueError(f"nft has no way to write the string {text!r}")
    return f'"{text}"'


def owner(cgroup: Cgroup) -> str:
    """The match for sockets that were created in `cgroup` or below it."""
    return f'socket cgroupv2 level {cgroup.level} "{cgroup.path}"'


def marked(mark: Mark) -> str:
    """The match for packets that carry the bit."""
    return f"meta mark & {mark.bit:#010x} == {mark.bit:#010x}"


def set_mark(mark: Mark) -> str:
    """The statement that sets the bit and leaves the others, which belong to others."""
    return f"meta mark set meta mark | {mark.bit:#010x}"


def bare_sets(bare: Iterable[ConnectionTuple]) -> list[str]:
    """The named sets `bare4` and `bare6` of connections that were open at enrolment; none where there are none."""
    parts = []
    for version, family in ((4, "ip"), (6, "ip6")):
        elements = sorted(
            f"{c.local} . {c.local_port} . {c.remote} . {c.remote_port}" for c in bare if c.local.version == version
        )
        if elements:
            listed = ",\n\t\t\t     ".join(elements)
            parts.append(
                f"\tset bare{version} {{\n"
                f"\t\ttypeof {family} saddr . tcp sport . {family} daddr . tcp dport\n"
                f"\t\telements = {{ {listed} }}\n"
                "\t}"
            )
    return parts


def bare_leaving(bare: Iterable[ConnectionTuple]) -> list[str]:
    """Matches for packets of bare connections as they leave."""
    return [
        f"{family} saddr . tcp sport . {family} daddr . tcp dport @bare{version}"
        for version, family in _families_of(bare)
    ]


def leave_bare(chain: Chain, bare: Iterable[ConnectionTuple]) -> None:
    """Rules that let bare connections out, and no new one with the same tuple: it would be taken for the old one."""
    for match in bare_leaving(bare):
        chain.add(f"{OPENING} {match} {REFUSE}", "that one has ended: until it is taken off the list")
        chain.add(f"{match} accept", "open at enrolment: bare until it ends")


def bare_arriving(bare: Iterable[ConnectionTuple]) -> list[str]:
    """Matches for packets of bare connections as they arrive."""
    return [
        f"{family} daddr . tcp dport . {family} saddr . tcp sport @bare{version}"
        for version, family in _families_of(bare)
    ]


def _families_of(bare: Iterable[ConnectionTuple]) -> list[tuple[int, str]]:
    versions = {c.local.version for c in bare}
    return [(version, family) for version, family in ((4, "ip"), (6, "ip6")) if version in versions]
