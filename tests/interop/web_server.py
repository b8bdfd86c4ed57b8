"""nginx as tests use it: one page, one big file, a log of who has asked."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from tests.stage import Host, eventually, program

HTTP = 8080
HTTP2 = 8082
BIG = 32 << 20

CONFIGURATION = """
user root;
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    log_format who '$remote_addr $server_port $connection $server_protocol $request_uri';
    access_log {folder}/access.log who;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {http} backlog=1024;
        listen [::]:{http} backlog=1024;
        root {folder}/site;
    }}
    server {{
        listen {http2} http2;
        root {folder}/site;
    }}
}}
"""


@dataclass(frozen=True)
class Request:
    """As logged: who asked, on which connection (nginx counts them), with which protocol, for what."""

    client: str
    port: int
    connection: int
    protocol: str
    path: str


class WebServer:
    """`page` is what `/page.txt` holds, `big` the file behind `/big.bin`."""

    def __init__(self, host: Host) -> None:
        folder = host.folder / "nginx"
        site = folder / "site"
        site.mkdir(parents=True)
        self.host = host
        self.page = f"the page says {secrets.token_hex(16)}\n".encode()
        (site / "page.txt").write_bytes(self.page)
        self.big = site / "big.bin"
        self.big.write_bytes(secrets.token_bytes(BIG))
        self._log = folder / "access.log"
        configuration = folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=folder, http=HTTP, http2=HTTP2))
        host.spawn(
            [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(configuration)],
            ready=lambda: host.listening(HTTP) and host.listening(HTTP2),
        )

    def requests(self, word: str) -> list[Request]:
        """Those whose path has `word` in it, so far."""
        found = []
        for line in self._log.read_text().splitlines():
            client, port, connection, protocol, path = line.split(" ", 4)
            if word in path:
                found.append(Request(client, int(port), int(connection), protocol, path))
        return found

    def logged(self, word: str, count: int = 1) -> list[Request]:
        """Waits for `count` requests whose path has `word` in it: they are logged after they were answered."""
        eventually(lambda: len(self.requests(word)) >= count, f"nginx has logged {count} requests with {word}")
        return self.requests(word)


def url(address: str, port: int, path: str, scheme: str = "http") -> str:
    return f"{scheme}://[{address}]:{port}{path}" if ":" in address else f"{scheme}://{address}:{port}{path}"


def curl(*words: str) -> list[str]:
    return [program("curl"), "--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "25", *words]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
