"""What `pip install` gets from a source distribution is enough to build every program in Rust."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = shutil.ignore_patterns("target", ".*", "*.egg-info", "__pycache__", "build", "dist")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


def test_every_member_of_cargos_workspace_is_in_the_source_distribution(tmp_path: Path) -> None:
    """Cargo reads all of them before it builds one."""
    copy, made = tmp_path / "copy", tmp_path / "made"
    shutil.copytree(ROOT, copy, ignore=MADE)
    made.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, str(made)], cwd=copy, check=True, capture_output=True)
    (archive,) = made.iterdir()
    with tarfile.open(archive) as distribution:
        names = {name.partition("/")[2] for name in distribution.getnames()}
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    assert members
    for member in members:
        assert f"{member}/Cargo.toml" in names
        assert {f"{member}/src/lib.rs", f"{member}/src/main.rs"} & names, member
    assert not any("/target/" in name for name in names)
