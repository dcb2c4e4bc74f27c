"""Changes written ahead into memory-mapped files: they survive `kill -9` without a system call.

A store into a shared mapping belongs to the kernel at once; whatever happens to
the process, the page is there for the next one. Two segments take turns: while
a snapshot of what the one holds is committed elsewhere, the other is written.

A segment is a header (magic, generation, checksum of both) and records:
length and CRC-32 (both little-endian, 4 bytes), then the payload. Checksums
begin with the identity of the database, so the files of another one do not
count; those of records with the generation too, so a record of an earlier turn ends the segment
just as a torn one does. A torn record is one whose answer never left.

The files are allocated before they are written to, so a full disk is met in
`append` as an error and never in the mapping as a signal.
"""

import errno
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from authz.store.protocols import StoreUnavailable

SEGMENT = 4 << 20  # bytes allocated at first, and the step of growth
LARGEST = 256 << 20  # bytes: so much waits at most for a commit that does not come

_MAGIC = b"azcount1"
_HEADER = struct.Struct("<8sQI")
_RECORD = struct.Struct("<II")


class Segment:
    """One memory-mapped file."""

    __slots__ = ("_end", "_file", "_identity", "_map", "_seed", "_size", "generation", "path")

    def __init__(self, path: Path, identity: bytes) -> None:
        self.path = path
        self._identity = crc32(identity)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._size = max(os.fstat(self._file).st_size, SEGMENT)
            _allocate(self._file, self._size, path)
            self._map = mmap.mmap(self._file, self._size)
        except BaseException:
            os.close(self._file)
            raise
        self.generation = self._read_generation()
        self._seed = 0
        self._end = 0

    def _read_generation(self) -> int:
        """0: nothing in it counts."""
        magic, generation, checksum = _HEADER.unpack_from(self._map)
        sound = magic == _MAGIC and checksum == crc32(self._map[: _HEADER.size - 4], self._identity)
        return generation if sound else 0

    def records(self) -> Iterator[bytes]:
        """The payloads up to the first record that is not whole."""
        seed, position = self._seed_of(self.generation), _HEADER.size
        while position + _RECORD.size <= self._size:
            length, checksum = _RECORD.unpack_from(self._map, position)
            start = position + _RECORD.size
            if length == 0 or start + length > self._size:
                return
            payload = self._map[start : start + length]
            if crc32(payload, seed) != checksum:
                return
            yield payload
            position = start + length

    def _seed_of(self, generation: int) -> int:
        return crc32(generation.to_bytes(8, "little"), self._identity)

    def begin(self, generation: int) -> None:
        """Start over, empty. What was in it no longer counts."""
        head = _HEADER.pack(_MAGIC, generation, 0)[:-4]
        self._map[: _HEADER.size] = head + crc32(head, self._identity).to_bytes(4, "little")
        self.generation = generation
        self._seed = self._seed_of(generation)
        self._end = _HEADER.size

    def append(self, payload: bytes) -> None:
        start = self._end + _RECORD.size
        end = start + len(payload)
        if end > self._size:
            self._grow(end)
        self._map[start:end] = payload
        _RECORD.pack_into(self._map, self._end, len(payload), crc32(payload, self._seed))
        self._end = end

    def _grow(self, needed: int) -> None:
        size = -(-needed // SEGMENT) * SEGMENT
        if size > LARGEST:
            raise StoreUnavailable(
                f"{LARGEST >> 20} MiB of counter changes wait in {self.path} for a commit to the database; "
                "see the log for why it fails"
            )
        _allocate(self._file, size, self.path)
        self._map.resize(size)
        self._size = size

    @property
    def is_empty(self) -> bool:
        return self._end <= _HEADER.size

    def close(self, *, shrink: bool = False) -> None:
        self._map.close()
        if shrink:
            os.ftruncate(self._file, SEGMENT)
        os.close(self._file)


class Journal:
    """Two segments that take turns. `committed` is the generation up to which all is safe elsewhere."""

    def __init__(self, base: Path, identity: bytes, committed: int) -> None:
        self._segments = [Segment(base.with_name(f"{base.name}-counters.0"), identity)]
        try:
            self._segments.append(Segment(base.with_name(f"{base.name}-counters.1"), identity))
        except BaseException:
            self._segments[0].close()
            raise
        self._committed = committed
        self._current = self._segments[0]
        self.append = self._current.append

    def recover(self) -> Iterator[bytes]:
        """Every change after `committed`, in order. Ask before `begin`."""
        for segment in sorted(self._segments, key=lambda each: each.generation):
            if segment.generation > self._committed:
                yield from segment.records()

    @property
    def newest(self) -> int:
        """The newest generation in the files, or the committed one."""
        return max(self._committed, *(segment.generation for segment in self._segments))

    def begin(self, committed: int) -> None:
        """All is safe elsewhere up to `committed`: start anew after it."""
        self._committed = committed
        self._current.begin(committed + 1)

    def flip(self) -> int:
        """Write to the other segment from now on. The generation that ends with this; see `may_flip`."""
        ended = self._current.generation
        other = self._segments[self._current is self._segments[0]]
        other.begin(ended + 1)
        self._current = other
        self.append = other.append
        return ended

    @property
    def may_flip(self) -> bool:
        """Whether the other segment is free: what it held is committed."""
        return self._current.generation == self._committed + 1

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written since the last flip."""
        return self._current.is_empty

    def commit(self, generation: int) -> None:
        """A snapshot that holds everything up to `generation` is safe."""
        self._committed = generation

    def close(self, *, clean: bool) -> None:
        for segment in self._segments:
            segment.close(shrink=clean)


def _allocate(file: int, size: int, path: Path) -> None:
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreUnavailable(
                f"no space left for {path} ({size} bytes); free some and try again"
            ) from error
        raise StoreUnavailable(f"cannot allocate {path}: {error.strerror}") from error
