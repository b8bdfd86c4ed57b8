"""A peer that speaks of Vault's HTTP API what the transit engine's encrypt and decrypt are (API documentation, "Encrypt
data", "Decrypt data"): a stand-in for Vault, which has no package here.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.stand-in"


class Transit(ThreadingHTTPServer):
    """`keys`: by mount and name. `sealed`: answers as Vault does before it is unsealed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: dict[str, list[AESGCM]] = {}
        self.sealed = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def rotate(self, key: str) -> None:
        self.keys.setdefault(key, []).append(AESGCM(os.urandom(32)))


class _Handler(BaseHTTPRequestHandler):
    server: Transit

    def do_PUT(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, _, mount, operation, name = self.path.split("/")
        versions = self.server.keys.get(f"{mount}/{name}", [])
        if self.server.sealed:
            self._answer(503, {"errors": ["Vault is sealed"]})
        elif self.headers["X-Vault-Token"] != TOKEN:
            self._answer(403, {"errors": ["permission denied"]})
        elif not versions:
            self._answer(400, {"errors": ["encryption key not found"]})
        elif operation == "encrypt":
            self._answer(200, {"data": {"ciphertext": _encrypt(versions, body)}})
        else:
            self._decrypt(versions, body)

    def _decrypt(self, versions: list[AESGCM], body: dict[str, str]) -> None:
        try:
            _, version, encoded = body["ciphertext"].split(":")
            whole = base64.b64decode(encoded)
            bound = base64.b64decode(body.get("associated_data", ""))
            plaintext = versions[int(version[1:]) - 1].decrypt(whole[:12], whole[12:], bound)
        except (ValueError, InvalidTag, IndexError):
            self._answer(400, {"errors": ["cipher: message authentication failed"]})
        else:
            self._answer(200, {"data": {"plaintext": base64.b64encode(plaintext).decode()}})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base class)
        pass


def _encrypt(versions: list[AESGCM], body: dict[str, str]) -> str:
    nonce = os.urandom(12)
    bound = base64.b64decode(body.get("associated_data", ""))
    whole = nonce + versions[-1].encrypt(nonce, base64.b64decode(body["plaintext"]), bound)
    return f"vault:v{len(versions)}:{base64.b64encode(whole).decode()}"


@contextmanager
def running() -> Iterator[Transit]:
    with Transit() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
