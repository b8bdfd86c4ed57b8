"""Enrolments that can't be: a clear error, and nothing half done in the kernel."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jfe_cni.agent.objects import Enrolment, Target
from jfe_cni.agent.reports import WorkloadReport
from jfe_cni.errors import ConflictError, IdentityError, JfeError, NamespaceGone, RequestError
from jfe_cni.identity.authority import open_authority
from jfe_cni.identity.spiffe import TrustDomain
from tests.stage import Host, Place, Stage, eventually
from tests.stage.footprint import changes, footprint
from tests.stage.host import TRUST_DOMAIN
from tests.stage.namespace import NetworkNamespace


def enrolment(path: str, name: str) -> Enrolment:
    return Enrolment(Target("netns", path), "strict", name=name)


class Asking(threading.Thread):
    """An enrolment that is asked for meanwhile; `outcome` is the report or the error."""

    def __init__(self, host: Host, wanted: Enrolment) -> None:
        super().__init__(daemon=True)
        self._host = host
        self._wanted = wanted
        self.outcome: WorkloadReport | JfeError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._host.ask(lambda agent: agent.enrol(self._wanted))
        except JfeError as error:
            self.outcome = error

    def ended(self) -> WorkloadReport | JfeError:
        self.join(60)
        assert self.outcome is not None
        return self.outcome


def workloads(host: Host) -> set[str]:
    return {workload.id for workload in host.ask(lambda agent: agent.workloads())}


# Seconds after the enrolment was asked for: before the namespace is opened, and in the middle of what follows.
@pytest.mark.parametrize("moment", [0, 0.002, 0.01, 0.03, 0.1])
def test_a_namespace_that_vanishes_while_it_is_enrolled_leaves_nothing(pair: Stage, moment: float) -> None:
    """Whether by the error or, where it was quicker, by being released as gone."""
    before = footprint(pair.a)
    vanishing = NetworkNamespace(f"{pair.name}-vanishing")
    asking = Asking(pair.a, enrolment(str(vanishing.path), "vanishing"))
    # No condition to wait for: any moment will do.
    threading.Event().wait(moment)
    vanishing.delete()
    outcome = asking.ended()
    if isinstance(outcome, JfeError):
        assert isinstance(outcome, NamespaceGone | RequestError), repr(outcome)
        assert outcome.remedy or "gone" in str(outcome)
    eventually(lambda: "vanishing" not in workloads(pair.a), "it is released")
    assert changes(before, footprint(pair.a)) == []
    upgrader_forgets(pair.a, vanishing)


def test_a_process_that_ends_while_its_namespace_is_enrolled_leaves_nothing(pair: Stage) -> None:
    alone = subprocess.Popen(["unshare", "--net", "sleep", "300"])
    try:
        own = Path("/proc/self/ns/net").stat().st_ino
        eventually(lambda: Path(f"/proc/{alone.pid}/ns/net").stat().st_ino != own, "it is in a namespace of its own")
        asking = Asking(pair.a, Enrolment(Target("pid", str(alone.pid)), "strict", name="vanishing"))
    finally:
        alone.send_signal(signal.SIGKILL)
        alone.wait()
    asking.ended()
    eventually(lambda: "vanishing" not in workloads(pair.a), "it is released")
    with pytest.raises((NamespaceGone, RequestError)):
        pair.a.ask(lambda agent: agent.enrol(Enrolment(Target("pid", str(alone.pid)), "strict", name="vanishing")))


def upgrader_forgets(host: Host, namespace: NetworkNamespace) -> None:
    """A namespace lives as long as somebody holds it; what held this one has let go, and its devices are gone."""

    def held() -> bool:
        marker = f"net:[{namespace.inode}]"
        holders = [host.agent.pid, *host.upgrader()]
        return any(marker in _target(file) for pid in holders for file in Path(f"/proc/{pid}/fd").iterdir())

    eventually(lambda: not held(), "nobody holds the namespace")


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except FileNotFoundError:
        return ""


def test_of_many_enrolments_of_one_namespace_at_once_one_succeeds(pair: Stage) -> None:
    target = NetworkNamespace(f"{pair.name}-twice")
    place = Place(target, pair.folder, "", "")
    before = footprint(place)
    try:
        asked = [Asking(pair.a, enrolment(str(target.path), f"twice-{number}")) for number in range(5)]
        outcomes = [asking.ended() for asking in asked]
        (made,) = [each for each in outcomes if isinstance(each, WorkloadReport)]
        refused = [each for each in outcomes if isinstance(each, JfeError)]
        assert [type(each) for each in refused] == [ConflictError] * 4
        assert workloads(pair.a) == {pair.a.name, made.id}
        (rules,) = pair.a.ask(lambda agent: agent.rules(made.id))
        assert rules.workloads == (made.id,)
        pair.a.unenrol(made.id)
        assert changes(before, footprint(place)) == []
    finally:
        target.delete()
    eventually(lambda: workloads(pair.a) == {pair.a.name}, "it is gone")


def test_the_same_name_twice_is_refused_and_the_first_goes_on(pair: Stage) -> None:
    other = NetworkNamespace(f"{pair.name}-other")
    try:
        with pytest.raises(ConflictError, match=pair.a.name):
            pair.a.ask(lambda agent: agent.enrol(enrolment(str(other.path), pair.a.name)))
        assert workloads(pair.a) == {pair.a.name}
        assert footprint(Place(other, pair.folder, "", ""))["nft -s list ruleset"] == ""
    finally:
        other.delete()


@pytest.mark.parametrize("path", ["/run/netns/there-is-none", "/etc/passwd", "/proc/self/ns/mnt", "/"])
def test_what_is_no_network_namespace_is_named(pair: Stage, path: str) -> None:
    with pytest.raises((NamespaceGone, RequestError), match=path):
        pair.a.ask(lambda agent: agent.enrol(enrolment(path, "none")))
    assert workloads(pair.a) == {pair.a.name}


def garbage(folder: Path) -> None:
    (folder / "signing.pem").write_text("no key, no certificate")


def only_a_key(folder: Path) -> None:
    pem = (folder / "signing.pem").read_text()
    (folder / "signing.pem").write_text(pem.partition("-----BEGIN CERTIFICATE")[0])


def another_key(folder: Path) -> None:
    other = folder / "other"
    open_authority(other, TrustDomain.parse(TRUST_DOMAIN), _now)
    key = (other / "signing.pem").read_text().partition("-----BEGIN CERTIFICATE")[0]
    certificate = (folder / "signing.pem").read_text().partition("-----BEGIN CERTIFICATE")[2]
    (folder / "signing.pem").write_text(key + "-----BEGIN CERTIFICATE" + certificate)


def open_to_others(folder: Path) -> None:
    (folder / "signing.pem").chmod(0o644)


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize("harm", [garbage, only_a_key, another_key, open_to_others], ids=lambda harm: harm.__name__)
def test_an_authority_that_cannot_be_used_is_named_and_nothing_is_left(
    stage: Stage, harm: Callable[[Path], None]
) -> None:
    folder = stage.folder / "authority"
    open_authority(folder, TrustDomain.parse(TRUST_DOMAIN), _now)
    harm(folder)
    before = footprint(stage.a)
    with pytest.raises(AssertionError, match="ended with status 1"):
        stage.a.start_agent()
    stage.a.released = True
    said = stage.a.agent.output()
    assert str(folder) in said
    assert "Traceback" not in said
    assert "PRIVATE KEY" not in said
    assert changes(before, footprint(stage.a)) == []
    assert stage.a.cgroups() == []


def test_an_expired_authority_enrols_nobody_and_leaves_nothing(stage: Stage) -> None:
    """Its root was good for ten years, which were over yesterday."""
    long_ago = _now() - timedelta(days=3651)
    open_authority(stage.folder / "authority", TrustDomain.parse(TRUST_DOMAIN), lambda: long_ago)
    stage.a.start_agent()
    before = footprint(stage.a)
    with pytest.raises(IdentityError, match="rotate"):
        stage.a.enrol("strict")
    assert workloads(stage.a) == set()
    assert changes(before, footprint(stage.a)) == []


def test_an_authority_that_breaks_under_a_running_agent_enrols_nobody_and_keeps_who_is_covered(stage: Stage) -> None:
    stage.start_agents()
    stage.a.enrol("strict")
    other = NetworkNamespace(f"{stage.name}-other")
    try:
        before = footprint(Place(other, stage.folder, "", ""))
        long_ago = _now() - timedelta(days=3651)
        (stage.folder / "authority" / "signing.pem").unlink()
        open_authority(stage.folder / "authority", TrustDomain.parse(TRUST_DOMAIN), lambda: long_ago)
        stage.a.stop_agent(signal.SIGKILL)
        stage.a.start_agent()
        with pytest.raises(IdentityError, match="valid only"):
            stage.a.ask(lambda agent: agent.enrol(enrolment(str(other.path), "other")))
        assert workloads(stage.a) == {stage.a.name}
        assert changes(before, footprint(Place(other, stage.folder, "", ""))) == []
    finally:
        other.delete()
