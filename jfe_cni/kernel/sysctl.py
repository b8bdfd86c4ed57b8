"""Sysctls of a network namespace, and what they were before.

`/proc/sys/net` shows the namespace of the thread that opens it, so all of this runs inside (`run_inside`).
"""

from __future__ import annotations

from pathlib import Path

from jfe_cni.errors import HostError, KernelError
from jfe_cni.rules.model import Former

ACCEPT = Path("/proc/sys/net/ipv4/tcp_fwmark_accept")
"""An accepted connection takes the mark of its SYN (Linux 3.15)."""

REFLECT = Path("/proc/sys/net/ipv4/fwmark_reflect")
IPV6_REFLECT = Path("/proc/sys/net/ipv6/fwmark_reflect")
"""What the kernel answers of itself takes the mark of what it answers (Linux 3.15)."""


def read_former(*, loopback_up: bool) -> Former:
    """What the three are now; for the calling thread's namespace."""
    return Former(
        accept=_read(ACCEPT),
        reflect=_read(REFLECT),
        ipv6_reflect=_read(IPV6_REFLECT) if IPV6_REFLECT.exists() else None,
        loopback_up=loopback_up,
    )


def set_all() -> None:
    """All to 1, those that are there."""
    for path in _present():
        _write(path, 1)


def restore(former: Former) -> None:
    """All as they were."""
    _write(ACCEPT, former.accept)
    _write(REFLECT, former.reflect)
    if former.ipv6_reflect is not None and IPV6_REFLECT.exists():
        _write(IPV6_REFLECT, former.ipv6_reflect)


def amiss() -> tuple[str, ...]:
    """Those that are not 1, in words."""
    return tuple(f"{path.relative_to('/proc/sys')} is not 1" for path in _present() if _read(path) != 1)


def _present() -> list[Path]:
    return [ACCEPT, REFLECT, *([IPV6_REFLECT] if IPV6_REFLECT.exists() else [])]


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except OSError as error:
        raise HostError(f"{path} cannot be read ({error.strerror})", "see `jfe doctor` for what is missing") from error


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(str(value))
    except PermissionError as error:
        raise HostError(f"{path} may not be written", "run as root, where /proc/sys is writable") from error
    except OSError as error:
        raise KernelError(f"{path} cannot be set to {value} ({error.strerror})", "try again") from error
