"""Where the programs in Rust are: named in the settings, installed with the package, on PATH, or in a checkout."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

from jfe_cni.errors import HostError

UPGRADER = "jfe-upgrader"
# Not what they are built or installed as, which is the plugin's type, `jfe`: beside the command of that name.
CNI_PLUGIN = "jfe-cni-plugin"
CNI_RETIRED = "jfe-cni-retired"
_PACKAGE = Path(__file__).resolve().parent.parent


def find(name: str = UPGRADER, named: Path | None = None) -> Path:
    """The program's path, absolute. Raises HostError where there is none, or where the one named can't be started."""
    if named is not None:
        if _can_start(named):
            return named.resolve()
        raise HostError(f"{named} is no program that can be started", remedy=f"name the built {name}")
    for candidate in _candidates(name):
        if _can_start(candidate):
            return candidate.resolve()
    raise HostError(f"{name} is not installed", remedy="install the package with pip, or build it: make build")


def _candidates(name: str) -> list[Path]:
    on_path = shutil.which(name)
    checkout = _PACKAGE.parent / "target"
    return [
        _PACKAGE / "bin" / name,
        Path(sysconfig.get_path("scripts")) / name,
        *([Path(on_path)] if on_path else []),
        checkout / "release" / name,
        checkout / "debug" / name,
    ]


def _can_start(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
