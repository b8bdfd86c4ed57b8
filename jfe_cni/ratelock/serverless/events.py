"""A request as Lambda hands it over (payload format 2.0, Lambda developer guide, "Invoking Lambda function URLs"), to
and from ASGI. Pure.

Who may invoke the function can write the whole event: nothing of it is believed but what a client could send anyway. No
certificate of a client comes out of it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from jfe_cni.errors import RequestError

Headers = Sequence[tuple[bytes, bytes]]


def request(event: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """ASGI's scope, and the body. Raises RequestError: it is no request."""
    try:
        if event["version"] != "2.0":
            raise ValueError(event["version"])
        method = _text(event["requestContext"]["http"]["method"])
        raw_path = _text(event["rawPath"]).encode("ascii")
        query = _text(event.get("rawQueryString", "")).encode("ascii")
        headers = [
            (_text(name).lower().encode("latin-1"), _text(value).encode("latin-1"))
            for name, value in event.get("headers", {}).items()
        ]
        body = _text(event.get("body") or "").encode()
        if event.get("isBase64Encoded", False):
            body = base64.b64decode(body, validate=True)
        path = unquote_to_bytes(raw_path).decode()
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise RequestError(
            "the event is no request of payload format 2.0", remedy="invoke with what a function URL would send"
        ) from error
    # What the header says of the body's length may be anything here; what counts is what came.
    headers = [(name, value) for name, value in headers if name != b"content-length"]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": raw_path,
        "root_path": "",
        "query_string": query,
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
        "client": None,
        "server": None,
        "state": {},
    }
    return scope, body


def answer(status: int, headers: Headers, body: bytes) -> dict[str, Any]:
    """As Lambda takes it. Every body of ours is text."""
    joined: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        # RFC 9110, section 5.3: as one line, in order.
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return {"statusCode": status, "headers": joined, "body": body.decode(), "isBase64Encoded": False}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
