"""Both programs on one domain, as the docs say: who is told by the one believes what the other publishes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx

from jfe_cni.overflowd.notices.keys import PUBLISHED
from jfe_cni.overflowd.notices.sealing import encryption_key
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from jfe_cni.overflowd.settings import SETTINGS as OF_REPORTER
from tests.overflowd.exports import v5, v5_record
from tests.overflowd.receiving import DOMAIN, Authority, laboratory, metric, started, until
from tests.overflowd.running import Running, running, send
from tests.overflowd.web_server import nginx, of_docs

SOURCE, DESTINATION = "127.9.0.1", "127.9.0.2"
# So many packets that each is told of, and more octets than its notices have.
SURE = v5_record(SOURCE, DESTINATION, packets=10_000, octets=10_000_000)


def words(folder: Path, publishing: int, udp: int) -> list[str]:
    given = {
        "netflow": "127.0.0.1:0", "odds": "0.01", "exporters": "127.0.0.1", "contact": f"noc@{DOMAIN}",
        "organisation": "A Carrier", "keys-url": f"https://{DOMAIN}:{publishing}{PUBLISHED}",
        "key-file": f"{folder}/keys.json", "state": f"sqlite:///{folder}/state.db",
        "budgets": f"sqlite:///{folder}/budgets.db", "told": "127.9.0.0/16", "ways": "udp", "udp-port": str(udp),
        "sealing": "never",
    }  # fmt: skip
    return ["--send", *(word for name, value in given.items() for word in (f"--{name}", value))]


async def test_a_carrier_that_runs_both_is_believed_and_stays_so_when_its_key_is_rotated(
    tmp_path: Path, trusted: Authority
) -> None:
    carrier, victim = tmp_path / "carrier", tmp_path / "victim"
    for each in (carrier, victim):
        each.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        own = await stack.enter_async_context(started(laboratory(carrier, trusted)))
        location = of_docs().replace(f"http://{ReceiverSettings.http}", own.http)
        publishing = await stack.enter_async_context(nginx(tmp_path, location, trusted.issue(DOMAIN)))
        settings = laboratory(victim, trusted, udp=f"{DESTINATION}:0", key_ports=(str(publishing),))
        told = await stack.enter_async_context(started(settings))
        with running(*words(carrier, publishing, told.udp)) as reporter:
            await _tells(reporter)
            await until(lambda: metric(told, "notices", "taken"))
            assert await metric(told, "pins", "first") == 1

            rotate = ("-m", "jfe_cni.overflowd.cli.main", "keys", "rotate", "--key-file", f"{carrier}/keys.json")
            rotating = await asyncio.create_subprocess_exec(sys.executable, *rotate, stdout=subprocess.DEVNULL)
            assert await rotating.wait() == 0
            reporter.process.send_signal(signal.SIGHUP)

            async def rotated() -> bool:
                await _tells(reporter)
                return await metric(told, "pins", "rotated") == 1

            await until(rotated)
            assert await metric(told, "notices", "no-key") == await metric(told, "notices", "key-changed") == 0
        context = ssl.create_default_context(cafile=str(trusted.roots))
        context.check_hostname = False
        async with httpx.AsyncClient(verify=context, trust_env=False) as http:
            found = (await http.get(f"https://127.0.0.1:{publishing}{PUBLISHED}")).json()
        assert encryption_key(found) is not None, "and what is sent to it may be sealed"


async def _tells(reporter: Running) -> None:
    await asyncio.to_thread(send, reporter.ports[0], [v5(SURE)])
    await asyncio.sleep(0.1)


def test_both_programs_have_the_same_file_of_keys_unless_told() -> None:
    (key_file,) = [each for each in OF_REPORTER.fields if each.name == "key_file"]
    assert ReceiverSettings.keys == key_file.default
