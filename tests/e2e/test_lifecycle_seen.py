"""What an administrator sees of it all: verbs of `jfe`, metrics, and the log, with an agent that is at work."""

from __future__ import annotations

import json
import re
import secrets
import signal
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.command import jfe
from tests.e2e.talk import Echo, Load, goes_both_ways, received, talking
from tests.stage import Host, Stage, eventually, program
from tests.stage.fixtures import told_of_failure

PORT = 7901
METRICS = "127.0.0.1:9464"
# As printed for each connection that has ended.
LINE = {
    *("time", "level", "event", "workload", "direction", "source", "destination", "decision", "reason", "peer"),
    *("tls", "bytes_sent", "bytes_received"),
}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Stage]:
    """Both strict; a's agent serves metrics by TCP."""
    with Stage() as made:
        with told_of_failure(made):
            made.a.start_agent("--metrics", METRICS)
            made.b.start_agent()
            for host in made.hosts:
                host.enrol("strict")
            made.introduce(made.a, to=made.b)
            made.introduce(made.b, to=made.a)
        yield made


def ask(host: Host, *words: str, status: int = 0) -> str:
    """What a verb prints."""
    ended = host.run(jfe(*words, "--socket", str(host.socket_path)), check=False, env={"COLUMNS": "200"})
    assert ended.returncode == status, ended.stderr.decode()
    return ended.stdout.decode()


def ask_json(host: Host, *words: str) -> Any:
    return json.loads(ask(host, *words, "--json"))


def metrics(host: Host) -> dict[str, float]:
    """Each series by its whole name. Fails where a line has another form (Prometheus' text format)."""
    text = host.run([program("curl"), "--disable", "-sS", "--fail", f"http://{METRICS}/metrics"]).stdout.decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_metrics_count_connections_bytes_and_handshakes(hosts: Stage) -> None:
    labels = f'decision="upgrade",direction="outbound",reason="mutual",workload="{hosts.a.name}"'
    connections = f"jfe_connections_total{{{labels}}}"
    sent = f'jfe_bytes_total{{direction_of_bytes="sent",workload="{hosts.a.name}"}}'
    handshakes = f'jfe_handshake_seconds_count{{workload="{hosts.a.name}"}}'
    seconds = f'jfe_handshake_seconds_sum{{workload="{hosts.a.name}"}}'
    before = metrics(hosts.a)
    with talking(hosts.a, hosts.b, PORT) as talk:
        talk.client.sendall(bytes(5000))
        received(talk.server, 5000)

    def grown() -> bool:
        now = metrics(hosts.a)
        return all(now.get(name, 0) > before.get(name, 0) for name in (connections, sent, handshakes, seconds))

    eventually(grown, "the metrics have it", otherwise=lambda: f"{metrics(hosts.a)}")
    now = metrics(hosts.a)
    assert now[connections] == before.get(connections, 0) + 1
    assert now[sent] == before.get(sent, 0) + 5000
    assert now[handshakes] == before.get(handshakes, 0) + 1
    assert 0 < now[seconds] - before.get(seconds, 0) < 10


def test_metrics_show_the_state_of_workloads(hosts: Stage) -> None:
    now = metrics(hosts.a)
    workload = hosts.a.ask(lambda agent: agent.workload(hosts.a.name))
    assert now['jfe_workloads{mode="strict",state="covered"}'] == 1
    assert now[f'jfe_rules_whole{{workload="{hosts.a.name}"}}'] == 1
    assert now[f'jfe_bare_connections{{workload="{hosts.a.name}"}}'] == 0
    assert now[f'jfe_certificate_expiry_seconds{{workload="{hosts.a.name}"}}'] == workload.certificate_expires


def test_the_log_has_one_line_a_connection_and_nothing_of_what_it_carried(hosts: Stage) -> None:
    word = secrets.token_hex(16).encode()
    with talking(hosts.a, hosts.b, PORT) as talk:
        source = "{}:{}".format(*talk.client.getsockname())
        talk.client.sendall(word)
        assert received(talk.server, len(word)) == word
        talk.server.sendall(word * 3)
        assert received(talk.client, 3 * len(word)) == word * 3
    hosts.a.told(source=source, ended=True)
    (line,) = [line for line in hosts.a.agent.output().splitlines() if f'"{source}"' in line]
    assert set(json.loads(line)) == LINE
    assert json.loads(line) | {"time": ""} == {
        "time": "",
        "level": "info",
        "event": "connection",
        "workload": hosts.a.name,
        "direction": "outbound",
        "source": source,
        "destination": f"{hosts.b.ipv4}:{PORT}",
        "decision": "upgrade",
        "reason": "mutual",
        "peer": hosts.b.identity,
        "tls": "TLSv1.3",
        "bytes_sent": len(word),
        "bytes_received": 3 * len(word),
    }
    for host in hosts.hosts:
        assert word not in b"".join(log.read_bytes() for log in host.folder.glob("*.log"))


def test_no_log_and_no_state_has_a_key(hosts: Stage) -> None:
    """The authority's own folder has its, for root alone."""
    read = 0
    for host in hosts.hosts:
        for path in (path for path in host.folder.rglob("*") if path.is_file()):
            read += 1
            assert b"PRIVATE KEY" not in path.read_bytes(), path
    assert read >= 4
    keys = [
        path for path in (hosts.folder / "authority").rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()
    ]
    assert keys
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_the_socket_is_roots_alone(hosts: Stage) -> None:
    assert stat.S_IMODE(hosts.a.socket_path.stat().st_mode) == 0o600
    # curl(1): 7, failed to connect.
    knock = [program("curl"), "--disable", "-sS", "--fail", "--unix-socket", str(hosts.a.socket_path)]
    knock += ["http://agent/v1/status"]
    hosts.a.run(knock)
    ordinary = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *knock]
    ended = hosts.a.run(ordinary, check=False)
    assert (ended.returncode, ended.stdout) == (7, b"")


def test_status_shows_the_node_and_its_workloads(hosts: Stage) -> None:
    said = ask_json(hosts.a, "status")
    assert said["node"] == hosts.a.name
    assert said["upgrader_connected"]
    assert said["upgrader_pid"] in hosts.a.upgrader()
    (workload,) = said["workloads"]
    assert (workload["id"], workload["mode"], workload["state"]) == (hosts.a.name, "strict", "covered")
    assert workload["identity"] == hosts.a.identity
    assert {hosts.a.ipv4, hosts.a.ipv6} <= set(workload["addresses"])
    printed = ask(hosts.a, "status")
    assert all(word in printed for word in (hosts.a.name, "strict", "covered", "proven to match"))


def test_rules_prints_what_is_in_the_kernel_and_nft_takes_it(hosts: Stage) -> None:
    printed = ask(hosts.a, "rules")
    assert "# whole" in printed
    assert f"tproxy ip to 127.0.0.1:{hosts.a.ask(lambda a: a.workload(hosts.a.name)).inbound_port}" in printed
    hosts.a.run(["nft", "--check", "--file", "-"], input=printed.encode())
    (report,) = ask_json(hosts.a, "rules", hosts.a.name)
    assert report["whole"] is True
    assert report["missing"] == []
    ended = hosts.a.run(jfe("rules", "no-such", "--socket", str(hosts.a.socket_path)), check=False)
    assert ended.returncode == 1
    assert b"no-such" in ended.stderr


def test_explain_says_what_then_happens(hosts: Stage) -> None:
    (covered,) = ask_json(hosts.a, "explain", f"{hosts.b.ipv4}:{PORT}")
    assert (covered["decision"], covered["reason"]) == ("upgrade", "mutual")
    assert covered["encrypted"] is True
    assert covered["peer"] == hosts.b.identity
    with talking(hosts.a, hosts.b, PORT) as talk:
        assert goes_both_ways(talk)
        assert hosts.a.told(destination=f"{hosts.b.ipv4}:{PORT}", reason="mutual", peer=covered["peer"])
    (stranger,) = ask_json(hosts.a, "explain", hosts.stranger.ipv4)
    assert (stranger["decision"], stranger["encrypted"]) == ("refuse", False)
    with talking(hosts.a, hosts.stranger, PORT) as talk:
        talk.client.sendall(b"plain")
        assert hosts.a.told(destination=f"{hosts.stranger.ipv4}:{PORT}", reason=stranger["reason"])
    assert "encrypted, with" in ask(hosts.a, "explain", f"[{hosts.b.ipv6}]:{PORT}")
    assert "refuse" in ask(hosts.a, "explain", hosts.stranger.ipv6)


def test_connections_lists_what_is_open(hosts: Stage) -> None:
    with talking(hosts.a, hosts.b, PORT) as talk:
        assert goes_both_ways(talk)
        source = "{}:{}".format(*talk.client.getsockname())
        (found,) = [each for each in ask_json(hosts.a, "connections") if each["source"] == source]
        assert (found["decision"], found["reason"], found["peer"]) == ("upgrade", "mutual", hosts.b.identity)
        assert (found["tls_version"], found["key_exchange"]) == ("TLSv1.3", "X25519MLKEM768")
        assert found["cipher"].startswith("TLS")
        assert source in ask(hosts.a, "connections")
        # Also where others come and go all the while.
        with Echo(hosts.b, PORT + 1), Load(hosts.a, hosts.b.ipv4, PORT + 1):
            assert source in ask(hosts.a, "connections")
    eventually(lambda: source not in ask(hosts.a, "connections"), "what has ended is not listed")


def test_connections_follow_tells_of_each_as_it_comes_and_goes(hosts: Stage) -> None:
    follow = hosts.a.spawn(jfe("connections", "--follow", "--json", "--socket", str(hosts.a.socket_path)))

    def phases(source: str) -> list[str]:
        lines = [json.loads(line) for line in follow.output().splitlines()]
        return [line["phase"] for line in lines if line["source"] == source]

    def heard() -> bool:
        """The follower may have begun after a connection was gone."""
        with talking(hosts.a, hosts.b, PORT) as talk:
            assert goes_both_ways(talk)
        return bool(re.search(r'"closed"', follow.output()))

    eventually(heard, "it follows")
    with talking(hosts.a, hosts.b, PORT) as talk:
        source = "{}:{}".format(*talk.client.getsockname())
        assert goes_both_ways(talk)
        eventually(lambda: "decided" in phases(source), "it tells of the decision", otherwise=follow.output)
        assert "closed" not in phases(source)
    eventually(lambda: phases(source)[-1] == "closed", "it tells of the end", otherwise=follow.output)
    assert phases(source)[0] == "open"
    assert follow.stop(signal.SIGINT) == 130


def test_a_verb_without_an_agent_says_what_to_do(stage: Stage) -> None:
    ended = stage.a.run(jfe("status", "--socket", str(stage.a.socket_path)), check=False)
    assert ended.returncode == 1
    assert b"jfe agent" in ended.stderr
    assert b"Traceback" not in ended.stderr
