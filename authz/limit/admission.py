"""How much of a quota a request holds while it runs."""

from typing import Literal

from msgspec import Struct

from authz.limit.estimate import CountInput

Admission = Literal["worst_case", "fitted", "learned"]
"""`worst_case`: all that it may use. `fitted`: what such answers have been seen to need, and the gateway
limits the request to that. `learned`: the same, but the request is not limited, so it may use more than was
held (invariant 4: "labelled `may_overrun`")."""


class Reckoning(Struct, frozen=True):
    """How requests for one model are reckoned."""

    admission: Admission | None = None  # None: `worst_case`; a route's own comes first
    count: CountInput | None = None


AS_USUAL = Reckoning()
