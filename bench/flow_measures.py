"""What is measured of overflowd: decoding beside goflow2 and nfdump, and memory; each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from bench.measures import Measure, Round
from bench.stage import Stage
from bench.way import Way
from jfe_cni.errors import HostError

FORMATS = ("v5", "v9", "ipfix", "sflow")


async def flows(_: Stage, __: list[Way]) -> Round:
    found = Round()
    for name, figures in (await _told("bench.flows", "--rounds", "1", "--json")).items():
        found.ratios[f"flows_{name}_vs_goflow2"] = figures.pop("ratio")
        for heading, value in figures.items():
            found.seen[name, heading] = value
    return found


async def memory(_: Stage, __: list[Way]) -> Round:
    """Of ten million flows that are all distinct."""
    told = await _told("bench.flow_memory")
    found = Round({"flows_memory_10m_vs_1m": told["mb_10"] / told["mb_1"]})
    found.seen["decoded and chosen", "MB after 10⁷ flows"] = told["mb_10"]
    found.seen["decoded and chosen", "CPU s/10⁶"] = told["cpu_seconds"] / told["flows"] * 1e6
    return found


async def _told(module: str, *words: str) -> dict[str, Any]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, wrong = await started.communicate()
    except asyncio.CancelledError:
        started.kill()
        await started.wait()
        raise
    if started.returncode:
        raise HostError(
            f"{module} ended with {started.returncode}: {wrong.decode().strip()[-500:]}", "run it by itself"
        )
    told: dict[str, Any] = json.loads(out)
    return told


FLOW_MEASURES = (
    Measure("flows", tuple(f"flows_{each}_vs_goflow2" for each in FORMATS), (), flows),
    Measure("flow-memory", ("flows_memory_10m_vs_1m",), (), memory),
)
