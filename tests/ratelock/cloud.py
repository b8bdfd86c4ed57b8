"""Moto's server: DynamoDB, IAM, STS, Lambda and KMS of the tests' own.

Moto takes several requests at once, but its transactions are then none: one that is cancelled puts back the table as it
was before, others' writes meanwhile included. Here requests are served one at a time, which is what DynamoDB promises.
What is put back is copied once a request, as far as Put and Delete can change it: moto copies each item that the table
ever had, for each item of the transaction.
"""

from __future__ import annotations

import copy
import io
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from moto.dynamodb.models.table import Table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class _OneAtATime:
    def __init__(self, application: Any) -> None:
        self._application = application
        self._lock = threading.Lock()

        self.held: dict[bytes, threading.Event] = {}

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        if self.held:
            self._wait_if_held(environ)
        with self._lock:
            _copies.clear()
            return list(self._application(environ, start_response))

    def _wait_if_held(self, environ: Any) -> None:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        for action, released in list(self.held.items()):
            if b"Action=" + action in body:
                released.wait(30)


class _KeepsConnections(MotoRequestHandler):
    protocol_version = "HTTP/1.1"
    # Or a small answer waits for the acknowledgement of its own header, 40 ms.
    disable_nagle_algorithm = True


# Of the request that is being served.
_copies: dict[int, Table] = {}


def _copied(table: Table, memo: dict[int, Any]) -> Table:
    if id(table) not in _copies:
        copied = _copies[id(table)] = copy.copy(table)
        copied.items = defaultdict(dict, {partition: dict(some) for partition, some in table.items.items()})
    return _copies[id(table)]


Table.__deepcopy__ = _copied  # type: ignore[attr-defined]


class Cloud:
    def __init__(self, endpoint: str, application: _OneAtATime) -> None:
        self.endpoint = endpoint
        self._application = application

    def forget(self) -> None:
        """Everything in it goes."""
        requests.post(f"{self.endpoint}/moto-api/reset", timeout=10).raise_for_status()

    @contextmanager
    def holding(self, action: str) -> Iterator[None]:
        """Whoever asks for it is answered afterwards."""
        released = self._application.held[action.encode()] = threading.Event()
        try:
            yield
        finally:
            del self._application.held[action.encode()]
            released.set()

    def authenticate_from_now_on(self, *, after: float = 0) -> None:
        """Whoever is not known, or may not, is refused, `after` so many more requests."""
        path = f"{self.endpoint}/moto-api/reset-auth"
        requests.post(path, data=str(after).encode(), timeout=10).raise_for_status()

    def authenticate_nobody(self) -> None:
        self.authenticate_from_now_on(after=float("inf"))


@contextmanager
def cloud() -> Iterator[Cloud]:
    application = _OneAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_KeepsConnections)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        host, port = server.server_address[:2]
        yield Cloud(f"http://{host!s}:{port}", application)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
