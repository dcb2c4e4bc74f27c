"""What a gateway tells of a response: that it runs, or that it ended and what it used."""

from msgspec import Struct

from authz.usage import Usage


class Report(Struct, frozen=True, kw_only=True):
    """The end of one response, as the gateway saw it. Every field but the reservation may be unknown."""

    reservation: str
    usage: Usage | None = None  # as the model server reported it; None: it did not, or not readably
    status: int = 0  # what the client was answered; 0: nothing, or unknown
    reached: bool = True  # the request went to a model server
    aborted: bool = False  # it was cut off: the client left, or the model server or a time limit ended it
    streamed: bool | None = None  # the answer came as server-sent events; None: unknown
    response_bytes: int | None = None  # of its body, as the client got it
    duration_ms: int | None = None  # from the request's first byte to the response's last
