"""What a store gives a command that counts nothing: it asks what would be answered, and leaves no trace."""

from collections.abc import Mapping, Sequence

from authz.quota import Unit
from authz.store.protocols import Exhausted, Hold, Outcome, Remembered, Reserved, Settled, StoreUnavailable
from authz.store.records import Denial

_LOOKS = "only the service counts; a command looks"


class LookingCounters:
    """Charges nothing, ever. A subclass peeks."""

    def place(self, holds: Sequence[Hold]) -> str:
        return ""

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved | Exhausted:
        raise StoreUnavailable(_LOOKS)

    async def find(self, reservation: str, gateway: str) -> Remembered | Outcome:
        raise StoreUnavailable(_LOOKS)

    async def settle(
        self, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        raise StoreUnavailable(_LOOKS)

    async def extend(self, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        raise StoreUnavailable(_LOOKS)

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        raise NotImplementedError


class NoDenials:
    """A command that explains a refusal is none."""

    def record(self, denial: Denial) -> None:
        """Not kept."""


async def written() -> None:
    """What a command reads has been written."""
