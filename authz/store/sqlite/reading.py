"""Records as they are kept, in JSON. One that cannot be read is trouble with the store, and said so."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from authz.store.protocols import StoreUnavailable

Record = TypeVar("Record", bound=msgspec.Struct)


def reader(kind: type[Record]) -> Callable[[Any], Record]:
    """What reads a record of this kind. Raises StoreUnavailable."""
    decode = msgspec.json.Decoder(kind).decode

    def read(body: Any) -> Record:
        try:
            return decode(body)
        except (msgspec.DecodeError, TypeError) as error:
            name = kind.__name__.lower()
            raise StoreUnavailable(
                f"the store holds a record ({name}) that this authz cannot read: {error}. "
                "A newer authz wrote it, or it is damaged: upgrade authz, or restore a backup"
            ) from error

    return read
