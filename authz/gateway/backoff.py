"""How long to wait before a child that died is started again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The first restart is nearly at once, each further one waits twice as long, up to `longest`.

    A child that stayed up for `steady` seconds, or was seen to listen, has earned a clean slate. All figures
    are seconds.
    """

    shortest: float = 0.1
    longest: float = 10.0
    steady: float = 30.0

    def delay(self, failures: int) -> float:
        """The wait after so many deaths in a row; 1 is the first."""
        return min(self.longest, self.shortest * 2.0 ** min(failures - 1, 16))
