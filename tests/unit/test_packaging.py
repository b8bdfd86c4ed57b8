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
