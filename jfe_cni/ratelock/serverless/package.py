"""The zip that Lambda runs: this installation's own code, and the very versions of its libraries that it runs with.

Made of the same files it is the same bytes. The libraries with code for a machine are this one's: the function is for
the same Python and the same architecture.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import jfe_cni
from jfe_cni.errors import HostError

# What the handler imports, of the project's own dependencies; the rest of it is what these depend on. The SQL stores'
# libraries too: their package is one with DynamoDB's.
_ROOTS = (
    "alembic", "boto3", "cryptography", "fastapi", "prometheus-client", "psycopg", "psycopg-binary", "sqlalchemy",
)  # fmt: skip
_OWN = (
    "__init__.py",
    "asgi.py",
    "databases",
    "errors.py",
    "identity",
    "private_file.py",
    "ratelock",
    "settings_list.py",
    "structured_log.py",
)
# Lambda developer guide, "Lambda quotas".
MOST_UNPACKED = 250 * 1024 * 1024
# ZIP has no earlier time.
_TIME = (1980, 1, 1, 0, 0, 0)
_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}


def runtime() -> tuple[str, str]:
    """Lambda's names of this Python and this architecture. Raises HostError: it has none."""
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None or sys.platform != "linux":
        raise HostError(
            f"Lambda runs nothing of {sys.platform} on {platform.machine()}", remedy="make the zip on Linux, x86 or Arm"
        )
    return f"python{sys.version_info.major}.{sys.version_info.minor}", architecture


def write(path: Path) -> None:
    """Raises HostError: a library is missing, or all together are more than Lambda unpacks."""
    files = dict(sorted([*_own(), *_libraries()]))
    unpacked = sum(file.stat().st_size for file in files.values())
    if unpacked > MOST_UNPACKED:
        raise HostError(f"{unpacked:,} bytes are more than Lambda unpacks", remedy="install fewer extras")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            # Lambda runs as another user: everybody reads, and enters.
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, file.read_bytes())


def _own() -> Iterator[tuple[str, Path]]:
    folder = Path(jfe_cni.__file__).parent
    for part in _OWN:
        for file in sorted((folder / part).rglob("*")) if (folder / part).is_dir() else [folder / part]:
            if file.is_file() and file.suffix != ".pyc":
                yield f"jfe_cni/{file.relative_to(folder)}", file
    # Which version it is, the API says.
    for described in importlib.metadata.files("jfe-cni") or ():
        if described.name == "METADATA":
            yield f"{described.parts[-2]}/METADATA", Path(str(described.locate()))


def _libraries() -> Iterator[tuple[str, Path]]:
    for name in sorted(_needed()):
        for file in importlib.metadata.files(name) or ():
            # Not the programs that go with them, which lie elsewhere.
            if file.parts[0] != ".." and file.suffix != ".pyc":
                found = Path(str(file.locate()))
                if found.is_file():
                    yield str(file), found


def _needed() -> set[str]:
    """Names of distributions."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    wanted = list(_ROOTS)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError as error:
            raise HostError(f"{name} is not installed", remedy="pip install 'jfe-cni[aws]'") from error
        for text in requirements:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name.lower())
    return found
