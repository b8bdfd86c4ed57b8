"""A ratelock of the test's own, whose authority signs for the stage's hosts."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from jfe_cni.identity import csr, leaf
from jfe_cni.identity.authority import Authority
from jfe_cni.identity.csr import Names
from jfe_cni.identity.spiffe import SpiffeId
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.client import Client
from jfe_cni.ratelock.faults import BudgetSpent
from tests.stage import Host, Place, eventually
from tests.stage.host import TRUST_DOMAIN
from tests.stage.process import Process

AUTHORITY = "jfe-ca"
HOUR = 3_600_000_000
PLENTY = Budget((Limit(1000, HOUR),))


def ratelock(*words: str) -> list[str]:
    return [sys.executable, "-m", "jfe_cni.ratelock.cli.main", *words]


def credential(host: Host) -> str:
    """By which a host's agent is known, and counted."""
    return f"spiffe://{TRUST_DOMAIN}/host/{host.name}/agent"


class Ratelock:
    """On a Unix socket, which hosts of a stage share whatever their network is, unless it is started elsewhere."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self.socket = folder / "ratelock.sock"
        self._settings = ("--store", f"sqlite:///{folder / 'store.db'}", "--key", f"file:{folder / 'key'}")
        made = subprocess.run(ratelock("token", "first", *self._settings), check=True, capture_output=True, text=True)
        self._owner = made.stdout.strip()
        self._starts = 0
        self.start()

    def start(self) -> None:
        self._run(ratelock("serve", *self._settings, "--listen", f"unix:{self.socket}"))

    def start_at(self, place: Place, port: int, identity: Authority, *options: str) -> None:
        """By TLS instead, in another place, with a certificate that names its address. `identity`: its roots are those
        of callers, too."""
        name = SpiffeId.parse(f"spiffe://{identity.trust_domain}/ratelock")
        own = identity.issue(Names(name, frozenset({ipaddress.ip_address(place.ipv4)})))
        files = {"chain.pem": own.certificates, "key.pem": own.key, "roots.pem": identity.bundle.pem()}
        for file, content in files.items():
            (self._folder / file).write_text(content)
        chain, key, self.roots = (self._folder / file for file in files)
        self.process.stop()
        self._run(
            place.entering(
                *ratelock("serve", *self._settings, "--listen", f"{place.ipv4}:{port}", *options),
                *("--tls-certificate", str(chain), "--tls-key", str(key), "--client-ca", str(self.roots)),
            )
        )

    def _run(self, command: list[str]) -> None:
        self._starts += 1
        self.process = Process(command, self._folder / f"serve-{self._starts}.log")
        eventually(lambda: '"serving"' in self.process.output(), "ratelock serves", otherwise=self.process.output)

    def kill(self) -> None:
        self.process.stop(signal.SIGKILL)

    @property
    def ca(self) -> str:
        return f"ratelock+unix://{quote(str(self.socket), safe='')}/{AUTHORITY}"

    def owner(self) -> Client:
        return Client(f"unix:{self.socket}", token=self._owner)

    def budget(self, meter: Meter, budget: Budget) -> None:
        with self.owner() as owner:
            owner.set_budget(meter, budget)

    def token_file(self, host: Host, *operations: str) -> Path:
        with self.owner() as owner:
            made = owner.make_token(credential(host), "caller", operations or ("certify",), (AUTHORITY,))  # type: ignore[arg-type]
        path = host.folder / "ca-token"
        path.write_text(made["token"] + "\n")
        path.chmod(0o600)
        return path

    def options(self, host: Host, *operations: str) -> tuple[str, ...]:
        """Of `jfe agent`."""
        return "--ca", self.ca, "--ca-token-file", str(self.token_file(host, *operations))

    def certified(self, token: str, host: Host, identity: str) -> Iterator[str]:
        """Certificates that whoever has the token gets for keys of its own, until it gets none."""
        with Client(f"unix:{self.socket}", token=token) as thief, contextlib.suppress(BudgetSpent):
            for number in itertools.count():
                names = Names(SpiffeId.parse(identity.format(node=host.name, number=number)), frozenset())
                yield thief.certify(AUTHORITY, csr.request(leaf.new_key(), names), host.name)

    def attempts(self, host: Host) -> int:
        """How often the host's credential was used, counted."""
        with self.owner() as owner:
            entries, first = [], 1
            while True:
                page = owner.log(first)
                entries += page["entries"]
                if page["next"] is None:
                    break
                first = page["next"]
        return len([each for each in entries if each["actor"] == credential(host) and "certify" in each["event"]])


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Ratelock]:
    """With an authority, and budgets under which nothing is refused yet."""
    service = Ratelock(folder)
    try:
        with service.owner() as owner:
            owner.add_authority(AUTHORITY, TRUST_DOMAIN)
            owner.set_budget(Meter("secret", AUTHORITY), PLENTY)
        yield service
    finally:
        service.process.stop()
