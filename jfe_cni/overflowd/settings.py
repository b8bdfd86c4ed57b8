"""The settings of `overflowd run`: one list, of which flags, OVERFLOWD_* of the environment, a TOML file and the table
of the docs are made.

For a service named `overflowd` Kubernetes sets OVERFLOWD_PORT, OVERFLOWD_SERVICE_HOST and more, so that no setting may
have such a name.
"""

from __future__ import annotations

from dataclasses import dataclass

from jfe_cni.overflowd.collector.settings import CollectorSettings
from jfe_cni.settings_list import SettingsList


@dataclass(frozen=True)
class Settings(CollectorSettings):
    """Of collecting, and of delivery."""


SETTINGS = SettingsList(Settings, "OVERFLOWD_")
