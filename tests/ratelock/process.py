"""`ratelock` as a person has it: the program, its environment, a `serve --dev` in the background."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.stage.deadline import eventually

PROGRAM = (sys.executable, "-m", "jfe_cni.ratelock.cli.main")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Dev:
    """`environment`: of this service and its verbs. `process`: None where it is started by somebody else."""

    environment: dict[str, str]
    process: subprocess.Popen[str] | None

    @property
    def kept(self) -> dict[str, str]:
        """What it left for the other verbs."""
        kept: dict[str, str] = json.loads(self.file.read_text())
        return kept

    @property
    def file(self) -> Path:
        return Path(self.environment["XDG_CONFIG_HOME"], "ratelock", "dev.json")

    def run(self, *words: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words],
            input=given,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self.environment | environment,
            timeout=60,
            check=False,
        )


@contextlib.contextmanager
def dev_service(folder: Path, *words: str, **environment: str) -> Iterator[Dev]:
    """On a port that is free. What it prints is in `folder`/out and err."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RATELOCK_")}
    wanted = inherited | {"XDG_CONFIG_HOME": str(folder / "config"), "RATELOCK_LISTEN": "127.0.0.1:0"} | environment
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            [*PROGRAM, "serve", "--dev", *words], stdout=out, stderr=err, text=True, cwd=ROOT, env=wanted
        )
        dev = Dev(wanted, process)
        try:
            eventually(lambda: dev.file.exists() or process.poll() is not None, "the service serves")
            assert process.poll() is None, (folder / "err").read_text()
            yield dev
        finally:
            process.terminate()
            process.wait(timeout=60)
