"""How programs are called and ended."""

from __future__ import annotations

import asyncio

from jfe_cni.kernel.nft import end


async def test_a_program_that_is_over_when_its_caller_is_cancelled_is_ended_already() -> None:
    process = await asyncio.create_subprocess_exec("true", stdout=asyncio.subprocess.PIPE)
    await process.communicate()
    await end(process)
    assert process.returncode == 0


async def test_a_program_that_goes_on_is_killed() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    await end(process)
    assert process.returncode == -9
