"""Hellos of strangers, well made and otherwise, and TLS whose bytes a test sends itself."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

# RFC 8446: record and handshake types, and the longest record.
HANDSHAKE, CLIENT_HELLO, RECORD_MAX = 22, 1, 1 << 14
# RFC 7685: an extension that says nothing, at any length.
PADDING = 21


def context(bundle: str | None = None, alpn: str | None = None) -> ssl.SSLContext:
    """Trusts `bundle` (PEM), or anybody."""
    made = ssl.create_default_context(cadata=bundle)
    if bundle is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if alpn is not None:
        made.set_alpn_protocols([alpn])
    return made


def client_hello() -> bytes:
    """One record with a hello that any server takes."""
    return TlsTalk(None, context()).outgoing.read()


def records(message: bytes) -> bytes:
    """A handshake message, cut into as few records as can be."""
    parts = [message[at : at + RECORD_MAX] for at in range(0, len(message), RECORD_MAX)]
    return b"".join(struct.pack("!BHH", HANDSHAKE, 0x0301, len(part)) + part for part in parts)


def long_hello(length: int) -> bytes:
    """A good hello that takes exactly `length` bytes on the wire, by padding."""
    body = client_hello()[9:]
    at = 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    # OpenSSL pads some of its hellos itself, and no extension may come twice.
    before, extensions = body[:at], _without(PADDING, body[at + 2 :])

    def made(padding: int) -> bytes:
        padded = extensions + struct.pack("!HH", PADDING, padding) + bytes(padding)
        whole = before + struct.pack("!H", len(padded)) + padded
        return records(bytes([CLIENT_HELLO]) + len(whole).to_bytes(3, "big") + whole)

    padding = length - len(made(0)) - 5 * ((length - 1) // (RECORD_MAX + 5))
    return made(padding)


def _without(kind: int, extensions: bytes) -> bytes:
    kept, at = b"", 0
    while at < len(extensions):
        found, length = struct.unpack_from("!HH", extensions, at)
        if found != kind:
            kept += extensions[at : at + 4 + length]
        at += 4 + length
    return kept


def malformed() -> dict[str, bytes]:
    """Each begins as TLS does, and can't be a hello."""
    message = client_hello()[5:]
    return {
        "garbage in a record": records(bytes([CLIENT_HELLO, 0, 0, 64]) + bytes(range(64))),
        "an empty record": struct.pack("!BHH", HANDSHAKE, 0x0301, 0),
        "a record longer than any": struct.pack("!BHH", HANDSHAKE, 0x0301, 0xFFFF) + bytes(100),
        "a version that never was": struct.pack("!BHH", HANDSHAKE, 0x0309, 100) + bytes(100),
        "a session id that is too long": records(message[:38] + b"\xff" + message[39:]),
        "extensions that end too soon": records(
            message[:1] + (len(message) - 4 - 7).to_bytes(3, "big") + message[4:-7]
        ),
        "bytes after the extensions": records(
            message[:1] + (len(message) - 4 + 7).to_bytes(3, "big") + message[4:] + bytes(7)
        ),
        "an alert in the midst of it": records(message[:40]) + b"\x15\x03\x01\x00\x02\x02\x28",
    }


class TlsTalk:
    """TLS by a client that decides when which byte is sent. Without a connection: the hello alone."""

    def __init__(self, connection: socket.socket | None, trust: ssl.SSLContext, name: str | None = None) -> None:
        self._connection = connection
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()

    def shake_hands(self, *, one_byte_a_time: bool = False) -> None:
        """ssl.SSLError, or an end of the stream (AssertionError), where the other side will not."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._send(one_byte_a_time=one_byte_a_time)
                self._receive()
        self._send(one_byte_a_time=one_byte_a_time)

    def ask(self, said: bytes) -> bytes:
        """As many bytes as were said."""
        self._tls.write(said)
        self._send(one_byte_a_time=False)
        return self.read(len(said))

    def read(self, count: int) -> bytes:
        answer = b""
        while len(answer) < count:
            try:
                answer += self._tls.read(count - len(answer))
            except ssl.SSLWantReadError:
                self._receive()
        return answer

    def certificate(self) -> bytes:
        seen = self._tls.getpeercert(binary_form=True)
        assert seen is not None
        return seen

    def _send(self, *, one_byte_a_time: bool) -> None:
        assert self._connection is not None
        said = self.outgoing.read()
        if not one_byte_a_time:
            self._connection.sendall(said)
            return
        for byte in said:
            self._connection.sendall(bytes([byte]))

    def _receive(self) -> None:
        assert self._connection is not None
        part = self._connection.recv(1 << 16)
        assert part, "the stream ended in the midst of TLS"
        self.incoming.write(part)
