"""Reads header blocks, and remembers what those mean that come again and again.

A gateway's calls differ in nothing but their messages: after the first ones its encoder sends the same few
bytes, references into the dynamic table that both sides keep (RFC 7541). What such a block means depends on
that table. So a block is remembered only if reading it left the table as it was, and everything is forgotten
as soon as a block changes the table. The table itself tells: whatever the decoder does to it is an `add` or
sets `maxsize`.
"""

from collections.abc import Callable, Sequence

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from authz.transport.lane.head import Field, Head
from authz.transport.lane.limits import Limits
from authz.transport.lane.wire import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

_TOO_MUCH = 4  # times `header_bytes`: beyond, it is no request with large headers but an attack


class _Table(HeaderTable):
    """Counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return super().maxsize

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.fset(self, size)  # type: ignore[attr-defined]  # a property has it


class Blocks:
    """The header blocks of one connection, in the order in which they came."""

    def __init__(self, limits: Limits, read: Callable[[Sequence[Field]], Head]) -> None:
        """`read` makes the meaning of fields; the same fields mean the same on one connection."""
        self._read = read
        self._most = limits.remembered_blocks
        self._longest = limits.remembered_block_bytes
        self._table = _Table()
        self._decoder = Decoder(max_header_list_size=limits.header_bytes * _TOO_MUCH)
        self._decoder.header_table = self._table
        self.known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Every block has to be read, also those of no interest: each may change the table."""
        head = self.known.get(block)
        if head is not None:
            return head
        before = self._table.changes
        try:
            fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "far too many header fields") from None
        except (HPACKError, IndexError):
            raise ConnectionFault(COMPRESSION_ERROR, "a header block that cannot be read") from None
        head = self._read(fields)
        if self._table.changes != before:
            self.known.clear()
        elif len(block) <= self._longest:
            if len(self.known) >= self._most:
                self.known.clear()
            self.known[block] = head
        return head
