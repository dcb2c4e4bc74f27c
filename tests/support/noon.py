"""A timezone in which it is around noon: no day, week or month ends while a test counts by it."""

import time
from typing import Final

NOON: Final = f"Etc/GMT{time.gmtime().tm_hour - 12:+d}"
"""Of these names the sign is the other way round: `Etc/GMT+3` is three hours behind UTC (tz database, `etcetera`)."""
