"""A report as the agent gives it, for the tests of who gives and who reads it."""

from __future__ import annotations

from jfe_cni.agent.reports import WorkloadReport

WEB = WorkloadReport(
    id="web",
    shape="namespace",
    mode="strict",
    state="covered",
    identity="spiffe://jfe.local/x",
    target_kind="netns",
    target="/run/netns/web",
    addresses=("10.1.0.5",),
    outbound_port=61000,
    inbound_port=61001,
    ipv6=True,
    certificate_expires=2.5,
    rules_whole=True,
    bare=(),
    passed=(),
    hazards=(),
    attachments=(),
    pod=None,
    cgroup=None,
    ran_bare=False,
    trouble=None,
)
