"""How `nft` is run and ended."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from jfe_cni.errors import KernelError
from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.kernel.nft import Run
from tests.stage.deadline import eventually


def program(folder: Path, text: str) -> str:
    """Stands for `nft`."""
    path = folder / "nft"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def test_what_it_says_first_is_what_went_wrong(tmp_path: Path) -> None:
    run = Run(program(tmp_path, "echo the-cause >&2; echo and-more >&2; exit 1"))
    with pytest.raises(KernelError, match="nft failed: the-cause: see"):
        run(["-f", "-"])


async def test_a_caller_that_goes_away_has_it_killed_and_returns_when_it_is_gone(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    run = Run(program(tmp_path, f"echo $$ > {begun}.new; mv {begun}.new {begun}; exec sleep 1000"))
    with Namespace.own() as own:
        running = asyncio.create_task(run_inside(own, partial(run, []), run.end))
        await asyncio.to_thread(eventually, begun.exists, "the program begins")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert not Path(f"/proc/{begun.read_text().strip()}").exists()


def test_one_that_was_ended_before_it_began_comes_to_nothing(tmp_path: Path) -> None:
    run = Run(program(tmp_path, "exec sleep 1000"))
    run.end()
    with pytest.raises(KernelError, match="was ended"):
        run([])
