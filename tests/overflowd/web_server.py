"""The web server that stands before a receiver: nginx."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from tests.overflowd.receiving import until

_DOCUMENT = Path(__file__).parents[2] / "docs/overflowd-receiver.md"


def of_docs() -> str:
    """What they say to put into its `server`."""
    said = re.search(r"```nginx\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    assert said is not None
    return said[1]


@contextlib.asynccontextmanager
async def nginx(folder: Path, locations: str, tls: tuple[Path, Path] | None = None) -> AsyncIterator[int]:
    """At 127.0.0.1; yields the port. `tls`: files of a certificate and its key."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = folder / "nginx.conf"
    places = " ".join(f"{each}_temp_path {folder}/{each};" for each in ("proxy", "fastcgi", "uwsgi", "scgi"))
    certificate = "" if tls is None else f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};"
    configuration.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;\n"
        f"events {{}} http {{ access_log off; client_body_temp_path {folder}/bodies; {places}\n"
        f"server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''}; {certificate}\n{locations} }} }}\n"
    )
    command = ("nginx", "-c", str(configuration), "-e", str(folder / "nginx-error.log"))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await until(lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
