"""Reporters and receivers as processes in namespaces, with keys published by HTTPS under names of their own."""

from __future__ import annotations

import json
import ssl
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jfe_cni.overflowd.notices.keys import PUBLISHED
from tests.overflowd.receiving import authority
from tests.stage.deadline import eventually
from tests.stage.namespace import ExistingNamespace
from tests.stage.process import Process

ROOT = Path(__file__).parents[2]
PAGE = 8761
_LISTEN = "127.0.0.1:8770"
# Those of the tests: private (RFC 1918), and for benchmarks (RFC 2544).
_NETWORKS = "10.0.0.0/8,198.18.0.0/15"


class Laboratory:
    """`folder`: where all that runs keeps its state. `publishers`: name and address of each who publishes keys, as
    NAME.example. `stack`: what ends all."""

    def __init__(self, folder: Path, publishers: Mapping[str, str], stack: ExitStack) -> None:
        self.folder = folder
        self._publishers = publishers
        self._stack = stack
        self._authority = authority(folder)
        self._hosts = folder / "hosts"
        # With the dot as well: receivers ask from the root.
        named = [f"{address} {name}.example {name}.example." for name, address in publishers.items()]
        self._hosts.write_text("\n".join(["127.0.0.1 localhost", *named]) + "\n")

    def started(self, space: ExistingNamespace, log: str, *command: str) -> Process:
        """With the publishers' names in /etc/hosts, which is the process's own."""
        mounted = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(self._hosts)]
        process = Process(space.command(*mounted, *command), self.folder / log, cwd=ROOT)
        self._stack.callback(process.stop)
        return process

    def report(self, space: ExistingNamespace, name: str, **given: str) -> Process:
        """`overflowd run --send`, whose keys are published. `given`: further flags."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        flags = {
            "contact": f"abuse@{name}.example",
            "organisation": f"Network {name}",
            "keys-url": f"https://{name}.example/.well-known/overflowd/keys.json",
            "key-file": str(folder / "keys.json"),
            "state": f"sqlite:///{folder}/state.db",
            "budgets": f"sqlite:///{folder}/budgets.db",
            "told": _NETWORKS,
            "odds": "1e-3",
            "listen": _LISTEN,
            **given,
        }
        process = self._overflowd(space, f"{name}.log", "run", "--send", **flags)
        process.says('"collecting"')
        self._publish(space, name)
        return process

    def receive(self, space: ExistingNamespace, name: str, address: str) -> Process:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        flags = {
            "store": f"sqlite:///{folder}/received.db",
            "keys": str(folder / "receiver-keys.json"),
            "udp": f"{address}:65535",
            "http": "",
            "page": f"127.0.0.1:{PAGE}",
            "key-networks": _NETWORKS,
            "key-roots": str(self._authority.roots),
        }
        process = self._overflowd(space, f"{name}.log", "receive", **flags)
        eventually(lambda: space.listening(PAGE), f"{name} receives", otherwise=process.output)
        return process

    def _overflowd(self, space: ExistingNamespace, log: str, *words: str, **flags: str) -> Process:
        given = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]
        return self.started(space, log, sys.executable, "-m", "jfe_cni.overflowd.cli.main", *words, *given)

    def _publish(self, space: ExistingNamespace, name: str) -> None:
        """nginx before the reporter's own listener."""
        folder, address = self.folder / name, self._publishers[name]
        certificate, key = self._authority.issue(f"{name}.example")
        configuration = folder / "nginx.conf"
        places = " ".join(f"{each}_temp_path {folder}/{each};" for each in ("proxy", "fastcgi", "uwsgi", "scgi"))
        configuration.write_text(
            f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;\n"
            "events {}\n"
            f"http {{ access_log off; client_body_temp_path {folder}/body; {places}\n"
            f"  server {{ listen {address}:443 ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n"
            f"    location /.well-known/overflowd/ {{ proxy_pass http://{_LISTEN}; }} }} }}\n"
        )
        command = ["nginx", "-c", str(configuration), "-e", str(folder / "nginx-error.log")]
        process = self.started(space, f"nginx-{name}.log", *command)

        def published() -> bool:
            context = ssl.create_default_context(cafile=str(self._authority.roots))
            # It is asked by its address: names are known to those who take notices in.
            context.check_hostname = False
            with urllib.request.urlopen(f"https://{address}{PUBLISHED}", context=context, timeout=20) as answer:
                return bool(json.loads(answer.read())["keys"])

        eventually(lambda: space.listening(443), f"{name} publishes its keys", otherwise=process.output)
        # Once, so that it has all that it needs by the time a receiver asks, whose patience is short.
        assert space.inside(published)


def all_ended(space: ExistingNamespace) -> bool:
    """Whether the reporter there has ended all copies that it has put into its outbox: told, or accounted for."""

    def get() -> str:
        with urllib.request.urlopen(f"http://{_LISTEN}/metrics", timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    counts = [line.rpartition(" ") for line in space.inside(get).splitlines() if not line.startswith("#")]
    put = sum(float(count) for name, _, count in counts if name == "overflowd_copies_put_total")
    ended = sum(float(count) for name, _, count in counts if name.startswith("overflowd_copies_total{"))
    return ended == put > 0


def shown(space: ExistingNamespace, path: str) -> Any:
    """What the page is made of, of the receiver there."""

    def get() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{PAGE}{path}", timeout=20) as answer:
            return json.loads(answer.read())

    return space.inside(get)
