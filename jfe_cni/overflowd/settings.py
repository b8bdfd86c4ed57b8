"""The settings of `overflowd run`: one list, of which flags, OVERFLOWD_* of the environment, a TOML file and the table
of the docs are made.

For a service named `overflowd` Kubernetes sets OVERFLOWD_PORT, OVERFLOWD_SERVICE_HOST and more, so that no setting may
have such a name.
"""

from __future__ import annotations

from dataclasses import dataclass

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.collector.settings import CollectorSettings
from jfe_cni.overflowd.delivery.settings import DeliverySettings
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


SETTINGS = SettingsList(Settings, "OVERFLOWD_")
