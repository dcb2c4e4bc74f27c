"""The few status codes that the lane itself answers (https://grpc.io/docs/guides/status-codes/)."""

OK = 0
CANCELLED = 1
UNKNOWN = 2
DEADLINE_EXCEEDED = 4
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13


class Refused(Exception):
    """What a handler raises to answer with a status instead of a message. The text goes to the peer."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
