"""Where the workers of one `authz serve` find each other: a directory of unix sockets, by number."""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct


class Worker(Struct, frozen=True):
    """One of several processes that answer at the same addresses."""

    number: int
    directory: Path  # only its owner may look into it

    @property
    def socket(self) -> Path:
        """Where it tells the others what it counted."""
        return socket_of(self.directory, self.number)

    @property
    def others(self) -> Iterator[tuple[int, Path]]:
        """Number and socket of the others, as far as they run now."""
        for path in sorted(self.directory.glob("*.sock")):
            if path.stem.isdecimal() and int(path.stem) != self.number:
                yield int(path.stem), path


def socket_of(directory: Path, number: int) -> Path:
    """The socket of a worker."""
    return directory / f"{number}.sock"
