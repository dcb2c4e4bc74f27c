"""What a probe expected, what it saw, and what follows from that."""

from enum import StrEnum

from msgspec import Struct


class Verdict(StrEnum):
    """How a probe ended."""

    OK = "ok"
    WRONG = "wrong"
    UNSEEN = "not seen"  # it could not be observed, or was not tried


class Finding(Struct, frozen=True, kw_only=True):
    """One row of the report."""

    probe: str
    expected: str
    seen: str
    verdict: Verdict
    advice: str = ""


def judged(probe: str, expected: str, seen: str, right: bool, advice: str) -> Finding:
    """Right or wrong; the advice is only for what is wrong."""
    verdict = Verdict.OK if right else Verdict.WRONG
    return Finding(probe=probe, expected=expected, seen=seen, verdict=verdict, advice="" if right else advice)


def unseen(probe: str, expected: str, why: str, advice: str = "") -> Finding:
    """Not observed, said plainly."""
    return Finding(probe=probe, expected=expected, seen=why, verdict=Verdict.UNSEEN, advice=advice)
