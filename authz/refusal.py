"""A stage's "no", before it becomes a denial for a client."""

from msgspec import Struct

from authz.reason import Reason


class Refusal(Struct, frozen=True):
    """`message` replaces the reason's own text; `param` names the field that is at fault.

    `detail` is for the operator alone: `authz check` and `authz decisions show` tell it. No credential in it.
    """

    reason: Reason
    message: str | None = None
    param: str | None = None
    status: int | None = None  # in the place of the reason's own
    detail: str = ""
