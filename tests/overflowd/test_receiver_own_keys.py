"""The receiver's own keys are kept as a reporter's are."""

from __future__ import annotations

import logging
import stat
import time
from pathlib import Path

import pytest

from jfe_cni.errors import IdentityError
from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.receiver import own_keys
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.own_keys import Published


def test_they_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    made = own_keys.read_or_make(path)
    again = own_keys.read_or_make(path)
    assert again.published(0) == made.published(0)
    assert again.opening.keys() == {made.sealing.thumbprint()}
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


def test_one_that_is_rotated_is_published_beside_the_former(tmp_path: Path) -> None:
    path, now = tmp_path / "keys.json", int(time.time())
    former = own_keys.read_or_make(path)
    keys.rotate(path, now)
    published = own_keys.read_or_make(path).published(now)
    assert len(published["keys"]) == 3
    assert former.ring.signing.thumbprint() in {each["kid"] for each in published["keys"]}


async def test_what_is_published_is_what_is_in_the_file_now(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, now = tmp_path / "keys.json", int(time.time())
    made = own_keys.read_or_make(path)
    published = Published(path, made, Complaints(logging.getLogger("overflowd"), lambda: 0))
    assert await published(now) == made.published(now)
    rotated = keys.rotate(path, now)
    after = await published(now)
    assert [each["kid"] for each in after["keys"]] == [
        rotated.signing.thumbprint(),
        made.ring.signing.thumbprint(),
        made.sealing.thumbprint(),
    ]
    path.chmod(0o640)
    assert [await published(now) for _ in range(3)] == [after] * 3
    path.unlink()
    assert [await published(now) for _ in range(3)] == [after] * 3
    assert not path.exists()
    assert len(caplog.records) == 2
    assert all("the former keys are published" in each.getMessage() for each in caplog.records)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"kty": "OKP", "crv": "X25519", "x": "AAAA"}', "garbage"])
def test_a_file_that_holds_none_is_not_replaced_silently(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    own_keys.read_or_make(path)
    sealing = tmp_path / "keys-sealing.json"
    sealing.write_text(content)
    with pytest.raises(IdentityError, match="keys-sealing"):
        own_keys.read_or_make(path)
    assert sealing.read_text() == content


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    own_keys.read_or_make(tmp_path / "keys.json")
    (tmp_path / "keys-sealing.json").chmod(0o640)
    with pytest.raises(IdentityError, match="open to others"):
        own_keys.read_or_make(tmp_path / "keys.json")
