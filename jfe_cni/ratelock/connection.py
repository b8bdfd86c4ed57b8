"""A connection of uvicorn's that hands the client's certificate to the application (ASGI TLS extension, version 0.2),
does not wait forever for a request's head, and refuses malformed HTTP in the form of all other errors."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from typing import Any, cast

import h11
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from jfe_cni import http_server
from jfe_cni.ratelock.api import problems

# IANA's registry of TLS versions.
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class Connection(http_server.Connection):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self.app = _with_extension(self.app, tls_extension(secured))

    def send_400_response(self, msg: str) -> None:
        body = json.dumps(problems.Problem(problems.MALFORMED, msg.rstrip(".")).document()).encode()
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        # Where an answer has begun already, there is no place for another.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def tls_extension(secured: ssl.SSLObject) -> dict[str, Any]:
    """`scope["extensions"]["tls"]`. Chain: the leaf alone, the one whose key the client has shown to hold; Python does
    not give out the rest before 3.13."""
    der = secured.getpeercert(binary_form=True)
    name, _, _ = secured.cipher() or ("", "", 0)
    certificate = None if der is None else x509.load_der_x509_certificate(der)
    return {
        "server_cert": None,
        "client_cert_chain": [] if certificate is None else [certificate.public_bytes(Encoding.PEM).decode()],
        "client_cert_name": None if certificate is None else certificate.subject.rfc4514_string(),
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(secured.version() or ""),
        "cipher_suite": _suites(secured.context).get(name),
    }


@functools.lru_cache(maxsize=16)
def _suites(context: ssl.SSLContext) -> dict[str, int]:
    """OpenSSL's ids carry the protocol in the upper half; IANA's number is the lower."""
    return {each["name"]: each["id"] & 0xFFFF for each in context.get_ciphers()}


def _with_extension(app: Any, extension: dict[str, Any]) -> Any:
    async def with_tls(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("extensions", {})["tls"] = extension
        await app(scope, receive, send)

    return cast(Any, with_tls)
