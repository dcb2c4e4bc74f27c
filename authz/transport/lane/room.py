"""How much may wait on all connections together: many peers, each within its own bound, are still many."""


class Room:
    """Bytes of messages that are not whole or not taken yet."""

    __slots__ = ("most", "taken")

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
