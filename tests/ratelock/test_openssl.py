"""Keys as everybody else meets them: what ratelock signs, OpenSSL's own program verifies; what that encrypts, ratelock
decrypts.
"""

from __future__ import annotations

import hashlib
import hmac
import subprocess
from pathlib import Path

import pytest

from jfe_cni.ratelock.secrets import key

MESSAGE = b"pay 20 to the bearer\n" * 100


def openssl(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("algorithm", "verify"),
    [
        ("ed25519", ["pkeyutl", "-verify", "-pubin", "-inkey", "public", "-rawin", "-sigfile", "signature", "-in"]),
        ("ecdsa-p256", ["dgst", "-sha256", "-verify", "public", "-signature", "signature"]),
    ],
)
def test_openssl_verifies_what_a_key_signs(tmp_path: Path, algorithm: str, verify: list[str]) -> None:
    made = key.generate(algorithm)
    signature = key.use(made.opened, "sign", MESSAGE)
    assert made.public is not None
    assert signature is not None
    (tmp_path / "public").write_text(made.public)
    (tmp_path / "signature").write_bytes(signature)
    (tmp_path / "message").write_bytes(MESSAGE)
    (tmp_path / "other").write_bytes(MESSAGE + b"0")
    in_folder = [str(tmp_path / each) if each in {"public", "signature"} else each for each in verify]

    verified = openssl(*in_folder, tmp_path / "message")
    assert verified.returncode == 0, verified
    assert openssl(*in_folder, tmp_path / "other").returncode == 1


def test_what_openssl_encrypts_a_key_decrypts(tmp_path: Path) -> None:
    made = key.generate("rsa-oaep-3072")
    assert made.public is not None
    (tmp_path / "public").write_text(made.public)
    options = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"]
    encrypt = ["pkeyutl", "-encrypt", "-pubin", "-inkey", str(tmp_path / "public")]
    for option in options:
        encrypt += ["-pkeyopt", option]

    longest = bytes(range(256)) + bytes(62)
    encrypted = openssl(*encrypt, stdin=longest)
    assert encrypted.returncode == 0, encrypted
    assert key.use(made.opened, "decrypt", encrypted.stdout) == longest
    assert openssl(*encrypt, stdin=longest + b"0").returncode == 1


def test_a_mac_is_hmac_sha256() -> None:
    made = key.generate("hmac-sha256")
    raw = made.opened.removeprefix(b"hmac-sha256\n")
    assert key.use(made.opened, "mac", MESSAGE) == hmac.new(raw, MESSAGE, hashlib.sha256).digest()
    command = ["mac", "-digest", "SHA256", "-macopt", f"hexkey:{raw.hex()}", "-binary", "HMAC"]
    assert key.use(made.opened, "mac", MESSAGE) == openssl(*command, stdin=MESSAGE).stdout
