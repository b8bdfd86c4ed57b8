"""Who steals the store, and not the key-encryption key, has nothing: no secret in any form, and nothing to try on."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_private_key
from sqlalchemy import MetaData, make_url, select

from jfe_cni.databases.engines import reader
from jfe_cni.ratelock import root
from jfe_cni.ratelock.demo import postgresql
from jfe_cni.ratelock.keys.local import context_bytes
from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.store import Operation, StoredSecret
from tests.ratelock.conftest import SQL_STORES
from tests.ratelock.services import CALLER, KEY, OWNER, service_on, store_of

PASSWORD = b"Tr0ub4dor&3 forever"
RECORD = {"number": "4111 1111 1111 1111", "holder": "Ada Löwenherz", "diagnosis": "entirely healthy"}
RELEASE: frozenset[Operation] = frozenset({"release"})


@dataclass
class Loot:
    """`files`: the store's, whole, or what pg_dump makes of it. `rows`: every value of every table. `hidden`: what must
    not be found there."""

    files: bytes
    rows: list[bytes]
    sealed: list[StoredSecret]
    hidden: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module", params=SQL_STORES)
def loot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loot:
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("stolen")
        return asyncio.run(_steal(f"sqlite:///{folder}/store.db", partial(_copied, folder)))
    url = request.getfixturevalue("postgresql_server").database()
    return asyncio.run(_steal(url, partial(_dumped, url)))


def _copied(folder: Path) -> tuple[bytes, list[bytes]]:
    """While it is open: what is only in the write-ahead log is stolen too."""
    for each in folder.iterdir():
        shutil.copy(each, folder / f"copy of {each.name}")
    stolen = b"".join(each.read_bytes() for each in sorted(folder.iterdir()))
    return stolen, list(_rows(f"sqlite:///{folder}/copy of store.db"))


def _dumped(url: str) -> tuple[bytes, list[bytes]]:
    words = [postgresql.program("pg_dump"), "--dbname", url]
    return subprocess.run(words, check=True, capture_output=True).stdout, list(_rows(url))


async def _steal(url: str, steal: Callable[[], tuple[bytes, list[bytes]]]) -> Loot:
    hidden: dict[str, bytes] = {"the password": PASSWORD, "what was tried": b"wrong but tried"}
    hidden.update((name, value.encode()) for name, value in RECORD.items())
    async with store_of(url) as store, service_on(store) as service:
        token = await service.make_token(OWNER, "till", "caller", RELEASE, ("*",), 3600)
        hidden |= {"a token": token.encode(), "a token's bits": base64.urlsafe_b64decode(token[3:] + "=")}
        await service.add_password(OWNER, "alice", PASSWORD)
        await service.add_record(OWNER, "chart", RECORD)
        for algorithm in ("ed25519", "ecdsa-p256", "hmac-sha256", "rsa-oaep-3072"):
            await service.add_key(OWNER, algorithm, algorithm)
        await service.check(CALLER, "alice", PASSWORD, idempotency_key="k1")
        await service.check(CALLER, "alice", b"wrong but tried", idempotency_key="k2")
        await service.check(CALLER, "nobody", b"wrong but tried", idempotency_key="k3")
        await service.release(CALLER, "chart", list(RECORD), idempotency_key="k4")
        await service.add_password(OWNER, "gone", b"password that was removed")
        hidden["a removed password"] = b"password that was removed"
        await service.remove(OWNER, "gone")

        # What a thief would like to have: all that is opened with the key, piece by piece.
        keys = await root.load(store, Sealing(KEY))
        hidden |= {"the pepper": keys.pepper, "the key of requests": keys.requests}
        hidden |= {"the signer of checkpoints": keys.checkpoints.private_bytes_raw()}
        sealed = list(await store.secrets())
        for stored in sealed:
            opened = await Sealing(KEY).open(stored.sealed, Label(stored.name, stored.kind, stored.version))
            hidden[f"what {stored.name} opens to"] = opened
            hidden[f"the private half of {stored.name}"] = _private(opened)
        files, rows = steal()
    return Loot(files, rows, sealed, hidden)


def _private(opened: bytes) -> bytes:
    """Of a private key the number alone, for its encoding has the public half too; of anything else, all."""
    algorithm, _, encoded = opened.partition(b"\n")
    if algorithm == b"hmac-sha256":
        return encoded
    if algorithm not in {b"ed25519", b"ecdsa-p256", b"rsa-oaep-3072"}:
        # Random bytes may have a line's end, too.
        return opened
    match load_der_private_key(encoded, None):
        case ec.EllipticCurvePrivateKey() as key:
            return key.private_numbers().private_value.to_bytes(32, "big")
        case rsa.RSAPrivateKey() as key:
            return key.private_numbers().d.to_bytes(384, "big")
        case ed25519.Ed25519PrivateKey() as key:
            return key.private_bytes_raw()
    raise AssertionError(algorithm)


def _rows(url: str) -> Iterator[bytes]:
    engine = reader(make_url(url))
    tables = MetaData()
    with engine.connect() as database:
        tables.reflect(database)
        for table in tables.sorted_tables:
            for row in database.execute(select(table)):
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)
    engine.dispose()


def forms(secret: bytes) -> Iterator[bytes]:
    """As it is, turned round, in hex, in either base64 at any of the three places where it may begin, escaped."""
    yield secret
    yield secret[::-1]
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        # The first and last letters depend on the neighbours.
        inner = encoded[4 if before else 0 : -4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
    text = secret.decode("utf-8", errors="ignore")
    yield text.encode("utf-16-le")
    yield text.encode("ascii", errors="backslashreplace")


def test_what_was_stolen_is_the_store(loot: Loot) -> None:
    assert {stored.name for stored in loot.sealed} == {
        *("alice", "chart", "~root", "ed25519", "ecdsa-p256", "hmac-sha256", "rsa-oaep-3072")
    }
    for there in (b"alice", b"till", b"-----BEGIN PUBLIC KEY-----", *(stored.sealed for stored in loot.sealed)):
        assert there in b"".join(loot.rows)
        assert any(form in loot.files for form in (there[:20], there[:20].hex().encode()))


def test_the_search_finds_what_is_there_in_any_form() -> None:
    for hidden in (PASSWORD, b"x" + PASSWORD, b"xy" + PASSWORD):
        for written in (
            hidden,
            hidden.hex().encode(),
            base64.b64encode(hidden),
            base64.urlsafe_b64encode(hidden + b"z"),
        ):
            assert any(form in b"before " + written + b" after" for form in forms(PASSWORD)), written


def test_no_secret_is_there_in_any_form(loot: Loot) -> None:
    for what, secret in loot.hidden.items():
        for form in forms(secret):
            assert len(form) > 6
            assert form not in loot.files, what


# As crypt(5) and the PHC string format have it. What is sealed is random bytes, where "$x$" alone comes by chance.
HASH = re.compile(rb"argon2|scrypt|pbkdf2|\$[0-9A-Za-z-]+\$[./0-9A-Za-z=,]{6}")


def test_there_is_no_hash_to_try_passwords_on(loot: Loot) -> None:
    assert not HASH.search(loot.files)


@pytest.mark.parametrize(
    "written",
    [
        b"$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaA",
        b"$2b$12$abcdefghijklmnopqrstuv",
        b"$6$saltsalt$hash",
        b"$y$j9T$saltsalt$hash",
    ],
)
def test_the_search_finds_hashes_in_the_forms_that_there_are(written: bytes) -> None:
    assert HASH.search(b"before" + written + b"\0")


def test_nothing_there_is_a_plain_digest_of_what_was_tried(loot: Loot) -> None:
    for guess in (PASSWORD, b"wrong but tried"):
        parts = (b"check", b"alice", guess)
        lengths = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        for text in (guess, b"alice" + guess, b"alice:" + guess, b"check" + b"alice" + guess, lengths):
            for algorithm in sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}):
                digest = hashlib.new(algorithm, text).digest()
                assert digest not in loot.files
                assert digest.hex().encode() not in loot.files


def test_no_key_that_is_there_opens_anything(loot: Loot) -> None:
    """Every 32 bytes of every row, and their digest, are tried as the key-encryption key and as the data key."""
    candidates = {row[start : start + 32] for row in loot.rows for start in range(len(row) - 31)}
    candidates |= {hashlib.sha256(row).digest() for row in loot.rows}
    assert len(candidates) > 1000
    opened = 0
    for stored in loot.sealed:
        header = 4 + len(KEY.id) + 60
        wrapped = stored.sealed[header - 60 : header]
        nonce, ciphertext = stored.sealed[header : header + 12], stored.sealed[header + 12 :]
        label = Label(stored.name, stored.kind, stored.version)
        assert _opens(AESGCM(bytes(range(32))), wrapped, label), "with the right key it does"
        for candidate in candidates:
            opened += _opens(AESGCM(candidate), wrapped, label)
            try:
                AESGCM(candidate).decrypt(nonce, ciphertext, stored.sealed[:header] + label.as_bytes())
                opened += 1
            except InvalidTag:
                pass
    assert opened == 0


def _opens(cipher: AESGCM, wrapped: bytes, label: Label) -> bool:
    try:
        cipher.decrypt(wrapped[:12], wrapped[12:], context_bytes(label.context))
    except InvalidTag:
        return False
    return True
