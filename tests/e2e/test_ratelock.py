"""Agents whose workloads are certified by an authority behind ratelock: under a budget per node and in all, and with
everything that is signed going on while ratelock is away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from jfe_cni.agent.faults import AuthorityAway, SigningBudgetSpent
from jfe_cni.agent.objects import Target
from jfe_cni.agent.reports import WorkloadReport
from jfe_cni.errors import IdentityError
from jfe_cni.identity.authority import open_authority
from jfe_cni.identity.csr import Names
from jfe_cni.identity.spiffe import SpiffeId, TrustDomain
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from tests.e2e.command import jfe
from tests.e2e.ratelock import AUTHORITY, HOUR, Ratelock, credential, serving
from tests.e2e.talk import Echo, Load, goes_both_ways, goes_on, talking
from tests.stage import Host, Stage, eventually
from tests.stage.namespace import NetworkNamespace

PORT = 7821


@pytest.fixture
def ratelock(stage: Stage) -> Iterator[Ratelock]:
    with serving(stage.folder / "ratelock") as service:
        yield service


@pytest.fixture
def covered(stage: Stage, ratelock: Ratelock) -> Stage:
    """Both hosts' agents have their workloads certified by the same authority. No folder holds one."""
    for host in stage.hosts:
        host.start_agent(*ratelock.options(host), on_exit="keep")
        host.enrol("strict")
    stage.introduce(stage.a, to=stage.b)
    stage.introduce(stage.b, to=stage.a)
    assert not (stage.folder / "authority").exists()
    return stage


@pytest.fixture
def load(covered: Stage) -> Iterator[Load]:
    """Fails at its end where one of its connections was dropped, or one of its exchanges went wrong."""
    with Echo(covered.b, PORT), Load(covered.a, covered.b.ipv4, PORT) as made:
        yield made


@pytest.fixture
def new(stage: Stage) -> Iterator[NetworkNamespace]:
    """A namespace that nobody has enrolled yet."""
    made = NetworkNamespace(f"{stage.name}-new")
    yield made
    made.delete()


def enrol(host: Host, namespace: NetworkNamespace, *, identity: str | None = None) -> WorkloadReport:
    return host.enrol("strict", name="new", identity=identity, target=Target("netns", str(namespace.path)))


def status(host: Host) -> str:
    """Its words, however lines are broken. Exit status 1 is that of troubles."""
    shown = host.run(jfe("status", "--socket", str(host.socket_path)), check=False)
    words = " ".join(shown.stdout.decode().split())
    assert shown.returncode == ("trouble" in words)
    return words


def report(host: Host) -> WorkloadReport:
    return host.ask(lambda agent: agent.workload(host.name))


def refusals(host: Host, reason: str) -> float:
    text = host.ask(lambda agent: agent.metrics())
    counted = [line for line in text.splitlines() if line.startswith("jfe_certificate_refusals_total{")]
    return sum(float(line.split()[-1]) for line in counted if f'reason="{reason}"' in line)


def test_two_hosts_of_one_ratelock_know_each_other(covered: Stage, ratelock: Ratelock) -> None:
    with covered.capture() as wire, talking(covered.a, covered.b, PORT, first=b"a-word-in-clear") as talk:
        talk.client.sendall(b"a-word-in-clear")
    assert wire.tls(PORT)
    assert not wire.contains(b"a-word-in-clear")
    assert covered.a.told(reason="mutual", direction="outbound")[0].peer == covered.b.identity
    assert covered.b.told(reason="mutual", direction="inbound")[0].peer == covered.a.identity
    assert [ratelock.attempts(host) for host in covered.hosts] == [1, 1]


def test_a_spent_budget_stops_a_stolen_credential_and_nothing_that_was_signed(
    covered: Stage, ratelock: Ratelock, load: Load, new: NetworkNamespace
) -> None:
    """The thief has a's token, and has certified whatever it may, until it may no more. b has a budget of its own."""
    ratelock.budget(Meter("caller", credential(covered.a)), Budget((Limit(5, HOUR),)))
    stolen = (covered.a.folder / "ca-token").read_text().strip()
    loot = list(ratelock.certified(stolen, covered.a, "spiffe://jfe.test/host/{node}/unit/{number}"))
    assert len(loot) == 5
    goes_on(load, "with a spent budget")
    with pytest.raises(SigningBudgetSpent, match=r"the signing budget of this node .* spent: 5 in 3600 s") as refused:
        enrol(covered.a, new)
    assert "come again in" in refused.value.remedy
    assert refusals(covered.a, "budget-spent") == 1
    said = status(covered.a)
    assert "the signing budget of this node at ratelock is spent" in said
    assert "come again in" in said
    assert [each.id for each in covered.a.ask(lambda agent: agent.status()).workloads] == [covered.a.name]
    enrol(covered.b, new)
    covered.b.unenrol("new")
    goes_on(load, "after the refusal")
    ratelock.budget(Meter("caller", credential(covered.a)), Budget((Limit(100, HOUR),)))
    enrol(covered.a, new)
    covered.a.unenrol("new")
    assert "signing budget" not in status(covered.a)


def test_while_ratelock_is_away_what_is_signed_goes_on_and_what_is_new_waits(
    covered: Stage, ratelock: Ratelock, load: Load, new: NetworkNamespace
) -> None:
    ratelock.kill()
    with pytest.raises(AuthorityAway, match=r"ratelock at unix:.* can't be reached"):
        enrol(covered.a, new)
    goes_on(load, "without ratelock")
    assert "no certificates at present: ratelock" in status(covered.a)
    assert refusals(covered.a, "away") == 1
    refused = covered.a.run(
        jfe("enroll", "--netns", str(new.path), "--mode", "strict", "--socket", str(covered.a.socket_path)),
        check=False,
    )
    assert refused.returncode == 1
    assert "ratelock" in refused.stderr.decode()
    assert "start it" in refused.stderr.decode()
    ratelock.start()
    enrol(covered.a, new)
    covered.a.unenrol("new")
    assert "no certificates at present" not in status(covered.a)
    goes_on(load, "with ratelock back")


def test_a_node_s_credential_certifies_no_other_node_s_workloads(
    covered: Stage, ratelock: Ratelock, new: NetworkNamespace
) -> None:
    with pytest.raises(IdentityError, match=f"may not have {covered.b.identity} certified"):
        enrol(covered.a, new, identity=covered.b.identity)
    assert refusals(covered.a, "refused") == 1
    assert ratelock.attempts(covered.a) == 1


def test_an_agent_takes_its_workloads_back_without_ratelock(
    covered: Stage, ratelock: Ratelock, load: Load, new: NetworkNamespace
) -> None:
    """Also one whose certificate is due: it goes on with the one that it has."""
    ratelock.kill()
    covered.a.stop_agent()
    goes_on(load, "without agent and ratelock")
    covered.a.start_agent("--ca", ratelock.ca, "--ca-token-file", str(covered.a.folder / "ca-token"), on_exit="keep")
    assert report(covered.a).state == "covered"
    goes_on(load, "with a new agent")
    with pytest.raises(AuthorityAway):
        enrol(covered.a, new)
    ratelock.start()
    enrol(covered.a, new)
    covered.a.unenrol("new")


def test_workloads_that_lost_their_keys_while_ratelock_was_away_are_closed_until_it_is_back(
    covered: Stage, ratelock: Ratelock
) -> None:
    """Keys are nowhere but in the upgrader."""
    ratelock.kill()
    for process in covered.a.upgrader():
        os.kill(process, signal.SIGKILL)
    eventually(lambda: "ratelock" in (report(covered.a).trouble or ""), "the agent says what it waits for")
    assert report(covered.a).state == "closed"
    ratelock.start()
    eventually(lambda: report(covered.a).state == "covered", "the workload is covered again")
    with talking(covered.a, covered.b, PORT) as talk:
        assert goes_both_ways(talk)


def test_an_agent_without_roots_awaits_ratelock(stage: Stage, ratelock: Ratelock) -> None:
    options = ratelock.options(stage.a)
    ratelock.kill()
    stage.a.start_agent(*options, ready=False)
    eventually(
        lambda: b"ratelock" in stage.a.run(jfe("status", "--socket", str(stage.a.socket_path)), check=False).stderr,
        "the agent says what it waits for",
    )
    ratelock.start()
    stage.a.await_ready()
    assert stage.a.enrol("strict").state == "covered"


@pytest.mark.parametrize("credential_is", ["a token", "a certificate"])
def test_a_node_is_known_over_tls_by_token_or_certificate(
    stage: Stage, ratelock: Ratelock, new: NetworkNamespace, credential_is: str
) -> None:
    """ratelock runs on the third place, and verifies callers by an authority that is not the one it keeps."""
    node = stage.a
    identity = open_authority(stage.folder / "identity", TrustDomain.parse("jfe.test"), lambda: datetime.now(UTC))
    token = ratelock.token_file(node)
    own = identity.issue(Names(SpiffeId.parse(credential(node)), frozenset()))
    certificate, key, listed = (node.folder / name for name in ("ca.pem", "ca.key", "identities.toml"))
    certificate.write_text(own.certificates)
    key.write_text(own.key)
    listed.write_text(f'[[identity]]\nid = "{credential(node)}"\nrole = "caller"\noperations = ["certify"]\n')
    by_token = credential_is == "a token"
    required = ("--client-certificates", "optional" if by_token else "required", "--identities", str(listed))
    ratelock.start_at(stage.stranger, 8750, identity, *required)
    credentials = ("--ca-token-file", token) if by_token else ("--ca-certificate", certificate, "--ca-key", key)
    url = f"ratelock://{stage.stranger.ipv4}:8750/{AUTHORITY}"
    node.start_agent("--ca", url, "--ca-roots", str(ratelock.roots), *map(str, credentials))
    assert enrol(node, new).identity == f"spiffe://jfe.test/host/{node.name}/namespace/new"
    bundle = node.ask(lambda agent: agent.authority())
    assert bundle.phase == "remote"
    assert bundle.trust_bundle != identity.bundle.pem()
    node.unenrol("new")
    node.stop_agent()
