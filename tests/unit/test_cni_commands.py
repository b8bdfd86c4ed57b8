"""GC goes on where one attachment can't be released, and says what it could not do."""

from __future__ import annotations

import json
import logging

import pytest

from jfe_cni.agent.attachment import Attachment, Container
from jfe_cni.agent.objects import Enrolment
from jfe_cni.cni.commands import Commands
from jfe_cni.cni.configuration import configuration_of
from jfe_cni.cni.faults import CniError
from jfe_cni.cni.invocation import invocation_of
from jfe_cni.cni.namespaces import Namespaces
from jfe_cni.errors import KernelError
from jfe_cni.identity.spiffe import TrustDomain

ALL = [Attachment("net", f"c{number}", "eth0") for number in range(4)]


class Reluctant:
    """Containers of which some can't be released."""

    def __init__(self) -> None:
        self.released: list[str] = []

    async def attach(self, enrolment: Enrolment, container: Container) -> None:
        raise AssertionError

    async def detach(self, attachment: Attachment) -> None:
        if attachment.container in ("c1", "c2"):
            raise KernelError(f"{attachment.container} is stuck")
        self.released.append(attachment.container)

    async def amiss(self, attachment: Attachment) -> tuple[str, ...] | None:
        raise AssertionError

    def of_network(self, network: str) -> list[Attachment]:
        return ALL if network == "net" else []

    def unable(self) -> tuple[str, bool] | None:
        return None


async def everything_default() -> Namespaces:
    return Namespaces()


async def test_collection_goes_on_after_a_failure_and_names_all_of_them() -> None:
    containers = Reluctant()
    commands = Commands(containers, everything_default, TrustDomain("d"), logging.getLogger("test"))
    valid = [{"containerID": "c0", "ifname": "eth0"}]
    said = {"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": valid}
    configuration = configuration_of(json.dumps(said).encode(), "GC")
    with pytest.raises(CniError) as refused:
        await commands.run(invocation_of({"CNI_COMMAND": "GC"}, configuration))
    assert containers.released == ["c3"]
    assert refused.value.code == 103
    assert "2 of 3" in refused.value.message
    assert "c1 is stuck" in refused.value.remedy
    assert "c2 is stuck" in refused.value.remedy
