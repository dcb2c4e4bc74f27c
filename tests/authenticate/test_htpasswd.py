"""Password files (attacks 75, 77)."""

import base64
from hashlib import sha1

import argon2
import bcrypt
import pytest

from authz.authenticate.htpasswd import LONGEST_BCRYPT, fault_of_hash, fits, parse


def hashed(password: str, cost: int = 4) -> str:
    """As `htpasswd -nB` prints it."""
    return "$2y" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()[3:]


def sha(password: str) -> str:
    return "{SHA}" + base64.b64encode(sha1(password.encode(), usedforsecurity=False).digest()).decode()


def argon(password: str) -> str:
    return argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(password)


KINDS = {"bcrypt": hashed("tulip é"), "argon2": argon("tulip é"), "sha": sha("tulip é")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_password_fits_its_hash_and_no_other(kind: str) -> None:
    assert fault_of_hash(KINDS[kind]) is None
    assert fits("tulip é", KINDS[kind])
    for wrong in ("", "tulip", "tulip é ", "Tulip é", KINDS[kind]):
        assert not fits(wrong, KINDS[kind])


def test_hashes_that_others_made() -> None:
    assert fits("abc", "{SHA}qZk+NkcGgWq6PiVxeFDCbJzQ2J0=")  # FIPS 180-4
    assert fits("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW")  # crypt_blowfish


def test_75_bcrypt_looks_at_72_bytes_so_no_longer_password_passes() -> None:
    exact = "é" * (LONGEST_BCRYPT // 2)
    assert fits(exact, hashed(exact))
    assert not fits(exact + "x", hashed(exact))
    assert fits("p" * 500, argon("p" * 500)), "others look at all of it"


FAULTS = {
    "empty": "",
    "plain": "tulip",
    "crypt": "rqXexS6ZhobKA",
    "md5": "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/",
    "sha256": "$5$rounds=5000$abcdefgh$KzdbEwPYiHMWnOAXFhU1",
    "bcrypt cut": KINDS["bcrypt"][:-1],
    "bcrypt of another kind": KINDS["bcrypt"].replace("$2y", "$2x"),
    "bcrypt of a cost that ends never": KINDS["bcrypt"].replace("$04$", "$31$"),
    "bcrypt without a cost": KINDS["bcrypt"].replace("$04$", "$00$"),
    "argon2 cut": "$argon2id$v=19$m=64",
    "argon2 of 4 GiB": KINDS["argon2"].replace("m=64", "m=4194304"),
    "sha cut": "{SHA}qZk+NkcGgWq6",
    "sha junk": "{SHA}!!!!",
    "locked": "!" + KINDS["bcrypt"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_77_other_hashes_match_nobody_and_are_told(fault: str) -> None:
    found = parse(f"# users\n\ncarol:{FAULTS[fault]}\n")
    assert found.hashes == {}
    (line,) = found.ignored
    assert line.number == 3
    assert not FAULTS[fault] or FAULTS[fault] not in line.text


def test_a_file() -> None:
    text = f"carol:{KINDS['bcrypt']}\r\ndave:{KINDS['sha']}\n dave:{KINDS['argon2']}\nnobody\n:x\n\nerin\x00:{KINDS['sha']}\n"
    found = parse(text)
    assert dict(found.hashes) == {"carol": KINDS["bcrypt"], "dave": KINDS["sha"]}
    assert [line.number for line in found.ignored] == [3, 4, 5, 7]
    assert KINDS["sha"] not in repr(found)
