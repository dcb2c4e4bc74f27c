"""What was done by units that a replica set aside of shared counters."""

from collections.abc import Mapping

from msgspec import Struct

from authz.quota import Unit


class Allowances(Struct):
    """Since the process started."""

    decisions: int = 0  # requests let through without asking
    lots: int = 0  # set aside
    stranded: int = 0  # lots that could not be given back: what was left of them counts as used
    outstanding: Mapping[Unit, int] = {}  # set aside and not spent, now
