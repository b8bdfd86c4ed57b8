"""Verbs of `jfe` that a person types while an agent runs, each seen to do what it says."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from jfe_cni.agent.objects import DirectoryEntry
from tests.e2e.command import cgroup, jfe
from tests.e2e.pod import enrol_pod, pod
from tests.e2e.talk import Echo, dialled, is_reset
from tests.stage import Host, Place, Stage, eventually
from tests.stage.fixtures import told_of_failure
from tests.stage.footprint import changes, footprint
from tests.stage.host import TRUST_DOMAIN
from tests.stage.namespace import ip

PORT = 7951


@pytest.fixture(scope="module")
def hosts() -> Iterator[Stage]:
    """An agent on a, and nothing enrolled."""
    with Stage() as made:
        with told_of_failure(made):
            made.a.start_agent()
        yield made


def ask(host: Host, *words: str) -> str:
    """What a verb prints."""
    return host.run(jfe(*words, "--socket", str(host.socket_path)), env={"COLUMNS": "200"}).stdout.decode()


def settled(place: Place, devices: int = 1) -> dict[str, str]:
    """Its footprint, once the kernel has given each device a link-local address."""
    routes = ("-n", place.name, "-6", "route", "show", "table", "local")
    eventually(
        lambda: ip(*routes).count("local fe80:") == devices, "link-local addresses", otherwise=lambda: ip(*routes)
    )
    return footprint(place)


def test_enroll_by_process_covers_its_namespace(hosts: Stage) -> None:
    with pod(hosts, hosts.a) as made, Echo(hosts.stranger, PORT) as heard:
        before = settled(made)
        process = made.spawn(["sleep", "300"])
        eventually(lambda: process.pid in made.namespace.processes(), "the process is in its namespace")
        name = f"pid-{process.pid}"
        identity = f"spiffe://{TRUST_DOMAIN}/host/{hosts.a.name}/namespace/{name}"
        said = ask(hosts.a, "enroll", "--pid", str(process.pid), "--mode", "strict")
        assert said.split() == f"{name} is covered (strict) as {identity}".split()
        with dialled(made, hosts.stranger.ipv4, PORT) as call:
            call.sendall(b"plain")
            assert is_reset(call)
        assert heard.heard == b""
        assert hosts.a.told(workload=name, reason="plaintext-to-stranger", decision="refuse")
        assert ask(hosts.a, "unenroll", name).split() == [name, "is", "released"]
        assert changes(before, footprint(made)) == []


def test_unenroll_all_releases_every_workload_and_names_each(hosts: Stage) -> None:
    with pod(hosts, hosts.a) as made, cgroup(hosts.a, "service") as service:
        before = {made: settled(made), hosts.a: settled(hosts.a, devices=2)}
        enrol_pod(hosts.a, made)
        ask(hosts.a, "enroll", "--cgroup", str(service.path))
        said = ask(hosts.a, "unenroll", "--all")
        assert sorted(said.splitlines()) == ["pod is released", "service is released"]
        assert hosts.a.ask(lambda agent: agent.workloads()) == []
        assert [change for place in before for change in changes(before[place], footprint(place))] == []
    assert ask(hosts.a, "unenroll", "--all") == ""


def test_the_bundle_that_is_printed_has_the_roots_that_are_shown(stage: Stage) -> None:
    stage.a.start_agent()
    for count in (1, 2):
        roots = json.loads(ask(stage.a, "ca", "show", "--json"))["roots"]
        printed = x509.load_pem_x509_certificates(ask(stage.a, "ca", "bundle").encode())
        shown = {root["fingerprint"].replace(":", "").lower() for root in roots}
        assert {each.fingerprint(hashes.SHA256()).hex() for each in printed} == shown
        assert len(shown) == count
        if count == 1:
            ask(stage.a, "ca", "rotate", "begin")


def test_the_directory_is_listed_with_where_each_entry_is_known_from(stage: Stage) -> None:
    file = stage.a.folder / "peers.txt"
    file.write_text("")
    stage.a.start_agent("--directory", str(file))
    assert "is empty" in ask(stage.a, "directory")
    assert ask(stage.a, "directory", "--json").split() == ["[]"]
    stage.a.enrol()
    stage.a.ask(lambda agent: agent.add_to_directory([entry(stage.b.ipv6, PORT, stage.b.identity)]))
    file.write_text(f"{stage.stranger.ipv4}\n")

    def listed() -> set[tuple[str, int | None, str | None, str]]:
        found = json.loads(ask(stage.a, "directory", "--json"))
        return {(each["network"], each["port"], each["identity"], each["source"]) for each in found}

    wanted = {
        (f"{stage.a.ipv4}/32", None, stage.a.identity, "own"),
        (f"{stage.a.ipv6}/128", None, stage.a.identity, "own"),
        (f"{stage.b.ipv6}/128", PORT, stage.b.identity, "api"),
        (f"{stage.stranger.ipv4}/32", None, None, "file"),
    }
    eventually(lambda: listed() == wanted, "the file is read", otherwise=lambda: f"{listed()}")
    table = ask(stage.a, "directory").splitlines()
    for network, port, identity, source in wanted:
        (row,) = (line for line in table if line.startswith(network))
        assert row.split()[1] == str(port or "all")
        assert (identity or "any whose certificate names the address") in row
        assert row.split()[-1] == source


def entry(address: str, port: int, identity: str) -> DirectoryEntry:
    return DirectoryEntry(ipaddress.ip_network(address), port, identity)
