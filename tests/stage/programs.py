"""Programs that tests run: found, or the test fails; it is never skipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def program(name: str) -> str:
    """The whole path of a program on PATH, or of the newest that a pattern finds (`/usr/lib/x/*/bin/y`)."""
    if name.startswith("/"):
        found = sorted(Path("/").glob(name.removeprefix("/")), key=_version)
        path = str(found[-1]) if found else None
    else:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        pytest.fail(f"{name} is missing: `make setup` installs it")
    return path


def go_program(name: str) -> Path:
    """One of those that are built from Go modules (dev/go-programs)."""
    path = Path("target/go/bin", name).absolute()
    if not path.exists():
        pytest.fail(f"{path} is missing: `make setup` builds it")
    return path


def _version(path: Path) -> list[int]:
    return [int(part) for part in path.parts if part.isdigit()]
