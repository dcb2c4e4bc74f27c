"""Whether the whole body reached us. Decided by what was declared, never by what a gateway's flag says."""

from authz.request import BodyState


def body_state(
    received: int,
    content_length: str | None,
    transfer_encoding: str | None,
    *,
    most: int | None,
    empty_is_none: bool,
) -> BodyState:
    """How much of a body `received` bytes are, by the length fields of the original request.

    `most` is how many bytes the gateway buffers at all, where it says so. A body
    without declared length is whole only when it is shorter than that.
    `empty_is_none`: without a length field, nothing received means no body.
    """
    if content_length is not None:
        if transfer_encoding or not (content_length.isascii() and content_length.isdigit()):
            return BodyState.PARTIAL if received else BodyState.WITHHELD
        declared = int(content_length[:19])
        if declared == received:
            return BodyState.WHOLE if received else BodyState.NONE
        return BodyState.PARTIAL if received else BodyState.WITHHELD
    if received:
        return BodyState.WHOLE if most is not None and received < most else BodyState.PARTIAL
    if transfer_encoding:
        return BodyState.WITHHELD
    return BodyState.NONE if empty_is_none else BodyState.WITHHELD


def is_partial_flag(value: str | None) -> bool:
    """Envoy's `x-envoy-auth-partial-body`. Its "false" proves nothing; anything else admits a cut."""
    return value is not None and value.strip().lower() != "false"


def framed_state(received: int) -> BodyState:
    """For a gateway that hands the whole body over in a message of its own framing."""
    return BodyState.WHOLE if received else BodyState.NONE
