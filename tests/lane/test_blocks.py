"""Header blocks are remembered only where that changes nothing: what comes out is what a decoder alone says."""

import random

import pytest
from hpack import Decoder, Encoder

from authz.transport.lane.blocks import Blocks
from authz.transport.lane.head import Head
from authz.transport.lane.limits import Limits

NAMES = [b"x-a", b"x-b", b":path", b"te", b"authorization"]


def keep(fields: object) -> Head:
    assert isinstance(fields, list)
    return Head(fields=fields)


@pytest.mark.parametrize("seed", range(20))
def test_remembered_or_not_a_block_means_the_same(seed: int) -> None:
    """As encoders do: some fields go into the table and some never, sometimes the table shrinks or grows."""
    how = random.Random(seed)
    values = [b"1", b"22", b"v" * 30]
    kinds = [[(how.choice(NAMES), how.choice(values)) for _ in range(how.randint(1, 3))] for _ in range(12)]
    encoder, alone = Encoder(), Decoder()
    blocks = Blocks(Limits(remembered_blocks=4), keep)
    again = 0
    for _ in range(1000):
        if how.random() < 0.02:
            encoder.header_table_size = how.choice([0, 60, 200, 4096])
        at = min(int(how.expovariate(1)), len(kinds) - 1)
        fields = [(name, value) for name, value in kinds[at]]
        block = encoder.encode([(name, value, at % 3 == 2) for name, value in fields], huffman=at % 2 == 1)
        again += block in blocks.known
        assert blocks.read(block).fields == fields == [tuple(each) for each in alone.decode(block, raw=True)]
        assert len(blocks.known) <= 4
    assert again > 20


@pytest.mark.parametrize(
    ("block", "remembered"),
    [
        (b"\x83\x86", True),  # two of the static table
        (b"\x00\x01a\x01b", True),  # without indexing
        (b"\x10\x01a\x01b", True),  # never indexed
        (b"\x04\x01b", True),  # the name of the static table
        (b"\x40\x01a\x01b", False),  # indexed
        (b"\x44\x01b", False),
        (b"\x83\x40\x01a\x01b", False),
        (b"\x3f\xe1\x1f\x83", False),  # the table's size, even to what it is
        (b"\x20\x83", False),
    ],
    ids=["indexed", "literal", "never", "named", "adds", "adds-named", "adds-last", "resizes-to-same", "resizes"],
)  # fmt: skip
def test_which_blocks_are_remembered(block: bytes, remembered: bool) -> None:
    blocks = Blocks(Limits(), keep)
    blocks.read(b"\x82")
    blocks.read(block)
    assert (block in blocks.known) is remembered
    assert (b"\x82" in blocks.known) is remembered  # what changes the table makes everything forgotten


def test_a_field_that_is_too_large_for_the_table_empties_it_and_that_is_a_change() -> None:
    blocks = Blocks(Limits(), keep)
    blocks.read(b"\x40\x01a\x01b")
    assert blocks.read(b"\xbe").fields == [(b"a", b"b")]
    blocks.read(b"\x40\x01c\x7f\xa1\x1f" + bytes(4128))
    with pytest.raises(Exception, match="cannot be read"):
        blocks.read(b"\xbe")


def test_long_blocks_are_read_anew() -> None:
    blocks = Blocks(Limits(remembered_block_bytes=10), keep)
    blocks.read(b"\x00\x01a\x07" + bytes(7))
    assert not blocks.known
