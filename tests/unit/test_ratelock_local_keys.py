"""Key-encryption keys of this host: a file that nobody else reads, a variable, and what refers to them."""

from __future__ import annotations

import base64
import multiprocessing
from pathlib import Path

import pytest

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.keys import open_key
from jfe_cni.ratelock.keys.file import file_key
from jfe_cni.ratelock.keys.kms import KmsKey
from jfe_cni.ratelock.keys.local import LocalKey

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()


def test_the_first_start_makes_a_key_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ratelock" / "key"
    first = file_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["key"]
    assert file_key(path).id == first.id


def test_two_first_starts_at_once_have_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        ids = pool.map(_id_of, [tmp_path / "key"] * 16)
    assert len(set(ids)) == 1


def _id_of(path: Path) -> str:
    return file_key(path).id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    file_key(path)
    path.chmod(mode)
    with pytest.raises(SealingError, match=f"open to others than its owner .mode {mode:04o}.*chmod 0600"):
        file_key(path)


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(bytes(16)).decode(), TEXT + TEXT])
def test_what_is_no_key_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(text)
    for reference in (f"file:{path}", "environment:KEY"):
        with pytest.raises(SealingError) as refused:
            open_key(reference, {"KEY": text})
        assert not text or text not in str(refused.value)


def test_a_key_that_moves_from_a_file_to_the_environment_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key"
    in_file = open_key(f"file:{path}", {})
    in_environment = open_key("environment:RATELOCK_KEY", {"RATELOCK_KEY": path.read_text()})
    assert in_file.id == in_environment.id != LocalKey(KEY).id


def test_a_key_is_not_told_by_its_id() -> None:
    assert LocalKey(KEY).id == "local:" + LocalKey(KEY).id[6:]
    assert len(LocalKey(KEY).id) == 22
    assert KEY.hex()[:16] not in LocalKey(KEY).id


def test_a_variable_that_is_not_set_says_how_to_make_a_key() -> None:
    with pytest.raises(SealingError, match="RATELOCK_KEY is not set: make one: head -c 32 /dev/urandom"):
        open_key("environment:RATELOCK_KEY", {})


@pytest.mark.parametrize("reference", ["", "file:", "key", "arn:aws:kms:eu-central-1:1:key/1", "http://key"])
def test_a_reference_of_another_shape_is_refused(reference: str) -> None:
    with pytest.raises(RequestError, match="names no key-encryption key"):
        open_key(reference, {})


@pytest.mark.parametrize("arn", ["alias/ratelock", "arn:aws:kms:eu-central-1:123456789012:alias/ratelock", "1234"])
def test_an_alias_is_no_key(arn: str) -> None:
    with pytest.raises(RequestError, match="not an alias"):
        KmsKey(None, arn)


def test_vault_without_an_address_says_so() -> None:
    with pytest.raises(RequestError, match="VAULT_ADDR is not set"):
        open_key("vault:transit/ratelock", {})
