"""The format of our keys."""

import pytest

from authz.authenticate import key_format
from authz.authenticate.key_format import KEY_LENGTH, PREFIX, digest, display, is_well_formed, mint


def test_a_minted_key_is_well_formed() -> None:
    minted = mint()
    assert is_well_formed(minted.key)
    assert len(minted.key) == KEY_LENGTH == 52
    assert minted.key.startswith(PREFIX)
    assert minted.digest == digest(minted.key)
    assert len(minted.digest) == 32
    assert minted.id.startswith("key_")
    assert len(minted.id) == 20


def test_no_two_keys_are_alike() -> None:
    minted = [mint() for _ in range(100)]
    assert len({each.key for each in minted}) == len({each.id for each in minted}) == 100


def test_the_checksum_is_part_of_the_format() -> None:
    """A change of either side would refuse every key that is out there."""
    body = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcd"
    assert key_format._checksum(body) == "eW363B"
    assert is_well_formed("sk-az-" + body + "eW363B")


def test_any_one_wrong_character_is_noticed() -> None:
    key = mint().key
    for position in range(len(key)):
        other = "A" if key[position] != "A" else "B"
        assert not is_well_formed(key[:position] + other + key[position + 1 :])


@pytest.mark.parametrize(
    "spoil",
    [str.upper, lambda key: key[:-1], lambda key: key + "A", lambda key: " " + key, lambda key: key + "\n"],
)
def test_other_shapes_are_not_well_formed(spoil) -> None:  # type: ignore[no-untyped-def]
    assert not is_well_formed(spoil(mint().key))


def test_what_is_shown_is_not_the_key() -> None:
    minted = mint()
    assert minted.key not in repr(minted)
    assert minted.key[10:] not in str(minted)
    assert minted.display == display(minted.key) == minted.key[:10] + "..."


@pytest.mark.parametrize(
    ("key", "shown"), [("sk-1234567890abcdef", "sk-1..."), ("abcd", "a..."), ("", "...")]
)
def test_of_an_imported_key_less_is_shown(key: str, shown: str) -> None:
    assert display(key) == shown
