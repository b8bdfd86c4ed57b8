"""Nothing of what WallIAM keeps, or of what a password opens it to, tells the right password from a wrong one."""

from __future__ import annotations

import base64
import random
import re
from collections import Counter
from collections.abc import Iterable

import pytest

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.secrets.password import LONGEST, Cost
from jfe_cni.ratelock.walliam.cipher import SIZE, Kept, decrypt, encrypt, nobodys

# As little as Argon2id takes: 8 KiB for one lane, one pass. What it costs is no matter here.
CHEAP = Cost(8, 1, 1)
PEPPER = bytes(32)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
PLAUSIBLE = re.compile(r"[A-Za-z0-9+/]{40}")
# The 0.999 999 quantiles of chi-square (R: qchisq), for bytes, letters of base64 and bits.
MOST_255, MOST_63, MOST_1 = 377.1, 130.5, 23.9
TRIES = 4_000


def secret_key(chance: random.Random) -> str:
    return "".join(chance.choices(LETTERS, k=40))


def chi_square(seen: Iterable[int | str], kinds: int) -> float:
    counted = Counter(seen)
    expected = counted.total() / kinds
    return sum((count - expected) ** 2 / expected for count in counted.values()) + expected * (kinds - len(counted))


def kept(key: str, password: bytes = b"correct horse") -> Kept:
    return encrypt("ratelock-user", "AKIAIOSFODNN7EXAMPLE", key, password, PEPPER, CHEAP)


def test_the_right_password_opens_it_and_it_is_kept_as_text() -> None:
    chance = random.Random(1)
    for _ in range(200):
        key = secret_key(chance)
        assert decrypt(Kept.decode(kept(key).encode()), b"correct horse", PEPPER) == key


def test_every_secret_key_is_of_one_string_of_bytes_and_every_string_of_bytes_is_one() -> None:
    chance = random.Random(2)
    for _ in range(2_000):
        drawn = chance.randbytes(SIZE)
        key = base64.b64encode(drawn).decode()
        assert PLAUSIBLE.fullmatch(key)
        assert base64.b64decode(key) == drawn
        assert base64.b64encode(base64.b64decode(text := secret_key(chance))).decode() == text


def test_every_password_opens_to_something_plausible() -> None:
    one = kept(secret_key(random.Random(3)))
    for guess in range(TRIES):
        assert PLAUSIBLE.fullmatch(decrypt(one, b"guess %d" % guess, PEPPER))
    for odd in (b"\x00", b"\xff" * LONGEST, "ü€😀".encode()):
        assert PLAUSIBLE.fullmatch(decrypt(one, odd, PEPPER))


def test_what_wrong_passwords_open_to_is_uniform_in_letters_bytes_bits_and_places() -> None:
    one = kept(secret_key(random.Random(4)))
    opened = [decrypt(one, b"guess %d" % guess, PEPPER) for guess in range(TRIES)]
    assert chi_square("".join(opened), 64) < MOST_63
    for place in range(40):
        assert chi_square((each[place] for each in opened), 64) < MOST_63
    decoded = [base64.b64decode(each) for each in opened]
    assert chi_square((byte for each in decoded for byte in each), 256) < MOST_255
    for bit in range(8 * SIZE):
        assert chi_square((each[bit // 8] >> bit % 8 & 1 for each in decoded), 2) < MOST_1


def test_what_is_kept_is_uniform_and_so_even_where_every_password_is_the_same() -> None:
    chance = random.Random(5)
    ciphertexts = [kept(secret_key(chance), b"123456").ciphertext for _ in range(TRIES)]
    assert chi_square((byte for each in ciphertexts for byte in each), 256) < MOST_255
    for place in range(SIZE):
        assert chi_square((each[place] for each in ciphertexts), 256) < MOST_255


def test_the_right_password_opens_to_nothing_that_wrong_ones_do_not() -> None:
    """Many users, whose keys the right passwords open: their letters are as the wrong ones' are, place by place."""
    chance = random.Random(6)
    users = [kept(secret_key(chance), b"right") for _ in range(TRIES)]
    for password in (b"right", b"wrong"):
        opened = [decrypt(each, password, PEPPER) for each in users]
        assert chi_square("".join(opened), 64) < MOST_63
        for place in range(40):
            assert chi_square((each[place] for each in opened), 64) < MOST_63


def test_the_measure_sees_what_is_not_uniform() -> None:
    chance = random.Random(7)
    one_place = [secret_key(chance)[:-1] + chance.choice(LETTERS[:60]) for _ in range(TRIES)]
    assert chi_square((each[39] for each in one_place), 64) > MOST_63
    assert not PLAUSIBLE.fullmatch(secret_key(chance)[:-1] + "=")
    without_a_slash = "".join(chance.choices(LETTERS[:-1], k=40 * TRIES))
    assert chi_square(without_a_slash, 64) > MOST_63
    ascii_kept = [byte for _ in range(TRIES) for byte in secret_key(chance)[:SIZE].encode()]
    assert chi_square(ascii_kept, 256) > MOST_255


def test_nobodys_looks_like_somebodys() -> None:
    some = [nobodys(CHEAP) for _ in range(TRIES)]
    assert Kept.decode(some[0].encode()) == some[0]
    assert chi_square((byte for each in some for byte in each.ciphertext), 256) < MOST_255
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", some[0].access_key_id)


def test_two_users_of_one_password_have_nothing_in_common() -> None:
    key = secret_key(random.Random(8))
    one, other = kept(key), kept(key)
    assert one.salt != other.salt
    assert one.ciphertext != other.ciphertext
    assert decrypt(one, b"correct horse", b"another pepper, of 32 bytes ....") != key


@pytest.mark.parametrize("key", ["", "a" * 39, "a" * 41, "a" * 39 + "=", "a" * 39 + "-", "ä" * 40])
def test_a_secret_key_of_another_shape_would_show_through_and_is_refused(key: str) -> None:
    with pytest.raises(SealingError):
        kept(key)


def test_no_password_and_one_too_long_are_refused() -> None:
    for password in (b"", b"a" * (LONGEST + 1)):
        with pytest.raises(RequestError):
            kept("a" * 40, password)


def test_something_else_is_no_kept_key() -> None:
    for text in (b"", b"$walliam$v=1", kept("a" * 40).encode() + b"\n", b"$argon2id$v=19$m=8,t=1,p=1$c2FsdA$dGFn"):
        with pytest.raises(SealingError):
            Kept.decode(text)
