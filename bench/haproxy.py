"""Debian's haproxy at both ends, one thread each: mutual TLS 1.3 with P-256 certificates, all else as it comes."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.way import SERVER_PORT, Way, listening
from jfe_cni.demo.hosts import Host
from jfe_cni.demo.programs import Program, Programs

CLIENT_NAME = "client.bench"
SERVER_NAME = "server.bench"

FRAME = """\
global
    nbthread 1
    maxconn 4000
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-options ssl-min-ver TLSv1.3
defaults
    mode tcp
    maxconn 4000
    timeout connect 10s
    timeout client 1h
    timeout server 1h
"""
CLIENT_SIDE = """\
listen bench
    bind 127.0.0.1:{port}
    default-server ssl verify required verifyhost {name} {options}
    server wire {address}:{wire} crt {keys}/client.pem ca-file {keys}/ca.pem
"""
SERVER_SIDE = """\
listen bench
    bind {address}:{wire} ssl crt {keys}/server.pem ca-file {keys}/ca.pem verify required {options}
    server application 127.0.0.1:{port}
"""


@dataclass(frozen=True)
class Variant:
    """Ports are of the client's own entrance, and of the wire."""

    name: str
    port: int
    wire: int
    bind_options: str
    server_options: str


FULL = Variant("haproxy", 9001, 9441, "no-tls-tickets", "no-ssl-reuse")
RESUMED = Variant("haproxy, resumed", 9002, 9442, "", "")


async def haproxy(
    variant: Variant, programs: Programs, client: Host, server: Host, application: Program, folder: Path
) -> Way:
    """Starts the pair; it ends with `programs`. `folder` has the keys, see `make_keys`."""
    sides = (
        (server, SERVER_SIDE, variant.wire, SERVER_PORT, variant.bind_options),
        (client, CLIENT_SIDE, variant.port, variant.port, variant.server_options),
    )
    started = []
    for host, side, listens, port, options in sides:
        config = folder / f"{host.name}-{variant.port}.cfg"
        config.write_text(
            FRAME
            + side.format(
                port=port,
                wire=variant.wire,
                address=server.address,
                keys=folder,
                name=SERVER_NAME,
                options=options,
            )
        )
        program = await programs.start(
            host, f"{variant.name} of {host.name}".replace(",", ""), "haproxy", "-db", "-f", str(config)
        )
        await listening(programs, host, program, listens)
        started.append(program)
    pids = [program.process.pid for program in started]
    return Way(variant.name, client, application, programs, f"127.0.0.1:{variant.port}", lambda: pids)


def make_keys(folder: Path) -> None:
    """ca.pem, client.pem and server.pem (certificate, then key), good for a day."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    signed = _certificate(authority, authority_key, authority, authority_key, None)
    (folder / "ca.pem").write_bytes(signed)
    for file, name in (("client.pem", CLIENT_NAME), ("server.pem", SERVER_NAME)):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        path = folder / file
        path.touch(mode=0o600)
        path.write_bytes(
            _certificate(subject, key, authority, authority_key, name)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    dns_name: str | None,
) -> bytes:
    """PEM; without `dns_name` that of an authority."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=dns_name is None, path_length=None), critical=True)
    )
    if dns_name is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
