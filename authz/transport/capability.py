"""What a gateway says that it can do for us, beside its token.

`edit, lease=60000`: it changes a request's body as we tell it (`authz.edit`), and it
tells at least every third of so many milliseconds that a response still runs. Over HTTP
it stands in the header `x-authz-gateway-can`, in Envoy's gRPC call in the context
extension `can`. It counts only from a gateway that proved itself: what is held relies on it.
"""

import re
from functools import lru_cache

from msgspec import Struct

LONGEST = 128  # characters

_WORD = re.compile(r"([a-z][a-z-]*)(?:=([0-9]{1,12}))?", re.ASCII)


class Capability(Struct, frozen=True):
    """What a gateway does."""

    edit: bool = False
    lease_ms: int | None = None


NONE = Capability()


@lru_cache(maxsize=64)
def capability(text: str) -> Capability:
    """Read the text. What is malformed or says a thing twice says nothing; other words are passed over."""
    said: dict[str, str | None] = {}
    for part in text.split(",") if len(text) <= LONGEST else ():
        word = _WORD.fullmatch(part.strip(" \t"))
        if word is None or word[1] in said:
            return NONE
        said[word[1]] = word[2]
    lease = said.get("lease")
    if said.get("edit") is not None or ("lease" in said and lease is None):
        return NONE
    return Capability("edit" in said, int(lease) if lease is not None else None)
