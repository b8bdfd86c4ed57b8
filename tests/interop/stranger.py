"""What a stranger has: the trust bundle, stock clients, and sometimes nothing to say."""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path

from tests.stage import Connection, Host, Place, Process, Stage, program

TLS = 8443
SMTP = 2525


def trust_bundle(stage: Stage) -> Path:
    """The roots that sign the hosts' identities, as a file that any client takes."""
    path = stage.folder / "bundle.pem"
    path.write_text(stage.b.ask(lambda agent: agent.authority()).trust_bundle)
    return path


def s_client(address: str, port: int, *words: str) -> list[str]:
    """openssl, which fails unless it trusts who answers."""
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return [program("openssl"), "s_client", "-connect", where, "-verify_return_error", "-ign_eof", *words]


def inbound(stage: Stage, port: int, caller: Place, **wanted: object) -> list[Connection]:
    """What b tells of connections of `caller` to this port, by IPv4, that match."""
    found = stage.b.told(direction="inbound", destination=f"{stage.b.ipv4}:{port}", **wanted)
    return [connection for connection in found if connection.source.startswith(f"{caller.ipv4}:")]


class TlsServer:
    """nginx with a certificate of its own, which answers with the version of TLS that it has spoken."""

    CONFIGURATION = """
        user root;
        worker_processes 1;
        daemon off;
        pid {folder}/pid;
        error_log stderr;
        events {{ }}
        http {{
            access_log off;
            server {{
                listen {port} ssl;
                ssl_protocols TLSv1.2 TLSv1.3;
                ssl_certificate {folder}/own.pem;
                ssl_certificate_key {folder}/own.key;
                location / {{ return 200 "$ssl_protocol"; }}
            }}
        }}
        """

    def __init__(self, host: Place) -> None:
        folder = host.folder / "tls"
        folder.mkdir()
        self.certificate = folder / "own.pem"
        request = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        names = ["-subj", "/CN=its own", "-addext", f"subjectAltName=IP:{host.ipv4},IP:{host.ipv6}", "-days", "2"]
        host.run([*request, "-keyout", str(folder / "own.key"), "-out", str(self.certificate), *names])
        configuration = folder / "nginx.conf"
        configuration.write_text(self.CONFIGURATION.format(folder=folder, port=TLS))
        nginx = [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(configuration)]
        host.spawn(nginx, ready=TLS, name="nginx-tls")

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())


def certificate_seen(caller: Place, address: str, port: int) -> bytes:
    """The leaf (DER) that a server shows to who trusts anybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with caller.socket() as connection:
        connection.settimeout(30)
        connection.connect((address, port))
        with context.wrap_socket(connection) as talk:
            seen = talk.getpeercert(binary_form=True)
    assert seen is not None
    return seen


def hears(caller: Place, address: str, port: int) -> bytes:
    """What a caller that says nothing gets first; nothing where the connection is ended or reset."""
    with caller.socket(socket.AF_INET) as connection:
        connection.settimeout(30)
        connection.connect((address, port))
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""


def mail_server(host: Host) -> Process:
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"0.0.0.0:{SMTP}"]
    return host.spawn([*command, "-c", "aiosmtpd.handlers.Debugging", "stdout"], ready=SMTP, name="smtp")
