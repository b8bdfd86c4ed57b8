"""The settings of `overflowd run`: one list, of which flags, OVERFLOWD_* of the environment, a TOML file and the table
of the docs are made.

For a service named `overflowd` Kubernetes sets OVERFLOWD_PORT, OVERFLOWD_SERVICE_HOST and more, so that no setting may
have such a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.collector.settings import CollectorSettings
from jfe_cni.overflowd.delivery.settings import DeliverySettings
from jfe_cni.overflowd.notices.notice import (
    Class,
    Direction,
    End,
    Notice,
    Reporter,
    TracedFlow,
    decode,
    encode,
    new_nonce,
)
from jfe_cni.settings_list import SettingsList, flag_of


@dataclass(frozen=True)
class Settings(DeliverySettings, CollectorSettings):
    """Of collecting, and of delivery."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, why in (
            ("exporters", "anybody can claim a flow: name the networks of yours, or `any`"),
            ("contact", "who is told must be able to ask: give an address of mail"),
            ("keys_url", "nobody believes a key that is published nowhere: https://…/.well-known/overflowd/keys.json"),
        ):
            if self.send and not getattr(self, name):
                raise RequestError(f"--send needs {flag_of(name)}", why)
        for name in ("contact", "organisation", "keys_url"):
            if not _is_told(getattr(self, name)):
                raise RequestError(f"{flag_of(name)} can't be in a notice", "256 printable characters at most")


def _is_told(text: str) -> bool:
    """Whether a receiver takes a notice that says it: of the longest flow, with as much beside it as there may be."""
    end = ip_address("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
    flow = TracedFlow(end, end, 65_535, 65_535, 255, 65_535, 2**64 - 1, 2**64 - 1, 0, 0, 2**32 - 1, Direction.INGRESS)
    reporter = Reporter(text, text, 2**32 - 1, text)
    sample = Notice(End.DESTINATION, flow, 1e-6, Class.SPOOFED_SOURCE, (), reporter, 0, new_nonce())
    return isinstance(decode(encode(sample)), Notice)


SETTINGS = SettingsList(Settings, "OVERFLOWD_")
