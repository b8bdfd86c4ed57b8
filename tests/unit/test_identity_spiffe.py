"""SPIFFE ids: what is taken, what is refused, and that no two workloads share one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.errors import IdentityError
from jfe_cni.identity import spiffe
from jfe_cni.identity.spiffe import SpiffeId, TrustDomain

DOMAIN = TrustDomain.parse("jfe.local")


def test_an_id_reads_as_it_was_written() -> None:
    text = "spiffe://jfe.local/host/n1/unit/postgresql.service"
    assert str(SpiffeId.parse(text)) == text
    assert SpiffeId.parse(text) == spiffe.host_unit(DOMAIN, "n1", "postgresql.service")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "jfe.local/host",
        "SPIFFE://jfe.local/x",
        "spiffe://",
        "spiffe://jfe.local",
        "spiffe://jfe.local/",
        "spiffe:///x",
        "spiffe://JFE.local/x",
        "spiffe://jfe.local/x//y",
        "spiffe://jfe.local/x/..",
        "spiffe://jfe.local/./x",
        "spiffe://jfe.local/x%2fy",
        "spiffe://jfe.local:443/x",
        "spiffe://user@jfe.local/x",
        "spiffe://jfe.local/x?y",
        "spiffe://jfe.local/" + "x" * 3000,
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(IdentityError):
        SpiffeId.parse(text)


def test_each_kind_of_workload_has_a_path_of_its_own() -> None:
    assert str(spiffe.kube(DOMAIN, "shop", "web")) == "spiffe://jfe.local/ns/shop/sa/web"
    assert str(spiffe.docker(DOMAIN, "front", "web-1")) == "spiffe://jfe.local/docker/front/web-1"
    assert str(spiffe.host_run(DOMAIN, "n1", "curl")) == "spiffe://jfe.local/host/n1/run/curl"
    assert str(spiffe.host_namespace(DOMAIN, "n1", "a")) == "spiffe://jfe.local/host/n1/namespace/a"


def test_a_name_with_letters_that_no_path_takes_is_written_legibly() -> None:
    assert spiffe.host_unit(DOMAIN, "n1", "getty@tty1.service").path[-1] == "getty_40_tty1.service"
    assert spiffe.host_unit(DOMAIN, "n1", "my_unit.service").path[-1] == "my_unit.service"


def test_a_name_of_dots_is_refused() -> None:
    with pytest.raises(IdentityError):
        spiffe.host_run(DOMAIN, "n1", "..")


@given(st.text(alphabet="_5f40a@\n.-é", min_size=1, max_size=12).filter(lambda name: name.strip(".") != ""))
def test_a_name_can_be_read_back_from_its_path(name: str) -> None:
    written = spiffe.host_run(DOMAIN, "n1", name).path[-1]
    assert re.sub("_([0-9a-f]+)_", lambda escape: chr(int(escape[1], 16)), written) == name
