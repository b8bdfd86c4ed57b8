"""What `pip install` and `make` build from the crates and put beside `jfe`."""

import struct
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from jfe_cni.agent import binaries

ROOT = Path(__file__).parents[2]
PLUGIN_PROGRAMS = (binaries.CNI_PLUGIN, binaries.CNI_RETIRED)
MOST_BYTES = 1_000_000
# Program header types (elf(5)): an interpreter, and what it would be told to load.
PT_INTERP, PT_DYNAMIC, DT_NEEDED = 3, 2, 1


def toml(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text())


def installed() -> dict[str, tuple[str, str]]:
    """Name once installed → (name as built, crate)."""
    bins = toml("pyproject.toml")["tool"]["setuptools-rust"]["bins"]
    named = [(each["target"], each["path"]) for each in bins]
    pairs = [(target if isinstance(target, dict) else {target: target}, path) for target, path in named]
    return {name: (built, path) for target, path in pairs for built, name in target.items()}


def loaded_by(program: bytes) -> list[str]:
    """What of the host's an ELF program of 64 bits, little-endian, is started with (elf(5))."""
    assert program[:6] == b"\x7fELF\x02\x01"
    (headers_at,) = struct.unpack_from("<Q", program, 0x20)
    size, count = struct.unpack_from("<HH", program, 0x36)
    found = []
    for at in range(headers_at, headers_at + size * count, size):
        kind, _flags, start, _virtual, _physical, length = struct.unpack_from("<IIQQQQ", program, at)
        if kind == PT_INTERP:
            found.append("interpreter")
        elif kind == PT_DYNAMIC:
            tags = [tag for tag, _value in struct.iter_unpack("<qQ", program[start : start + length])]
            found += ["library"] * tags.count(DT_NEEDED)
    return found


def test_an_installation_brings_the_upgraders_programs_and_the_plugins_along() -> None:
    programs = installed()
    assert set(programs) == {binaries.UPGRADER, f"{binaries.UPGRADER}-worker", *PLUGIN_PROGRAMS}
    for built, crate in programs.values():
        assert built in {each["name"] for each in toml(crate)["bin"]}, f"{crate} builds no {built}"


@pytest.mark.parametrize("program", PLUGIN_PROGRAMS)
def test_the_plugin_is_static_and_small(program: str) -> None:
    """A runtime starts it for each container, in whatever file system it runs in: no C library is looked for there."""
    content = binaries.find(program).read_bytes()
    assert loaded_by(content) == []
    assert len(content) < MOST_BYTES, "built without the musl target? see dev/build-plugin"


def test_a_program_that_is_not_static_is_seen_to_be_so() -> None:
    assert set(loaded_by(binaries.find(binaries.UPGRADER).read_bytes())) == {"interpreter", "library"}


def test_the_plugin_is_the_standard_library_and_its_own_folder() -> None:
    listing = "cargo tree --locked --offline --package jfe-cni-plugin --prefix none --edges normal,build"
    command = ["dev/as-caller", *listing.split()]
    tree = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in tree.splitlines()] == ["jfe-cni-plugin"]
