"""A container image made of this machine's files: busybox, and a web server's page that tells who asks.

The archive is an OCI image layout (https://github.com/opencontainers/image-spec/blob/main/image-layout.md) in a tar
file, as `ctr images import` takes it."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.stage import program

# Nobody answers for .invalid (RFC 2606): an image that is not there is not sought elsewhere.
IMAGE = "jfe.invalid/busybox:1"
WEB_ROOT = "/www"
# What httpd serves at /cgi-bin/who: the client's address as the server sees it, and what the client had to say. It
# listens for both versions, and tells an IPv4 address as one of IPv6 (RFC 4291, section 2.5.5.2).
WHO = b"""#!/bin/sh
seen=${REMOTE_ADDR#[[]::ffff:}
echo; echo "${seen%]} $QUERY_STRING"
"""
MEDIA = "application/vnd.oci.image"
# As image-spec, config.md, has it: Go's names.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def archive() -> bytes:
    """As process 1 it sleeps for ever, so that it is a sandbox's image, too."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layer = blob(_layer(), "layer.v1.tar")
    configuration = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "2147483647"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": blob(_json(configuration), "config.v1+json"),
        "layers": [layer],
    }
    named = blob(_json(manifest), "manifest.v1+json") | {"annotations": {"io.containerd.image.name": IMAGE}}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"})}
    files |= {"index.json": _json({"schemaVersion": 2, "manifests": [named]})}
    files |= {f"blobs/sha256/{digest}": content for digest, content in blobs.items()}
    return _tar([(_entry(name), content) for name, content in files.items()])


def _layer() -> bytes:
    busybox = program("busybox")
    if "ld-" in subprocess.run(["ldd", busybox], capture_output=True, text=True, check=False).stdout:
        pytest.fail(f"{busybox} needs libraries, which the image has not: install Debian's busybox-static")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    entries = [(_folder(name), b"") for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "www", "www/cgi-bin")]
    entries.append((_entry("bin/busybox", 0o755), Path(busybox).read_bytes()))
    entries += [(_link(f"bin/{applet}", "busybox"), b"") for applet in applets if applet != "busybox"]
    entries.append((_entry("www/cgi-bin/who", 0o755), WHO))
    return _tar(entries)


def _tar(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _entry(name: str, mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode = mode
    return made


def _folder(name: str) -> tarfile.TarInfo:
    made = _entry(name, 0o755)
    made.type = tarfile.DIRTYPE
    return made


def _link(name: str, target: str) -> tarfile.TarInfo:
    made = _entry(name, 0o777)
    made.type, made.linkname = tarfile.SYMTYPE, target
    return made


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
