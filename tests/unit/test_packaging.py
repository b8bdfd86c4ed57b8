"""What `pip install` builds from the crates and puts beside `jfe`."""

import tomllib
from pathlib import Path
from typing import Any

from jfe_cni.agent import binaries

ROOT = Path(__file__).parents[2]


def toml(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text())


def test_an_installation_brings_both_programs_of_the_upgrader_along() -> None:
    built = {each["target"]: each["path"] for each in toml("pyproject.toml")["tool"]["setuptools-rust"]["bins"]}
    assert set(built) == {binaries.UPGRADER, f"{binaries.UPGRADER}-worker"}
    for program, crate in built.items():
        assert program in {each["name"] for each in toml(crate)["bin"]}, f"{crate} builds no {program}"


def test_a_source_distribution_has_all_that_cargo_insists_on() -> None:
    """Every member of the workspace, also those that are not built, and the lock, since it is built as locked."""
    manifest = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines()]
    included = {word for verb, *words in manifest if verb == "include" for word in words}
    grafted = [word for verb, *words in manifest if verb == "graft" for word in words]
    assert {"Cargo.toml", "Cargo.lock"} <= included
    members = toml("Cargo.toml")["workspace"]["members"]
    assert [each for each in members if not any(Path(each).is_relative_to(folder) for folder in grafted)] == []
