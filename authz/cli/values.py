"""What people write on a command line, read into values; and moments spelled for people."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo

from authz.authenticate.key_format import holds_key
from authz.cli.context import Context
from authz.cli.errors import UsageError
from authz.config.base import Wrong
from authz.config.words import model_name
from authz.quota import BadQuota, Quota, Unit, parse_amount, parse_duration

_WRITE_A_MOMENT = "Write a duration such as 90d or 12h, or a date such as 2027-01-31 or 2027-01-31T18:00."


def moment_ahead(text: str, now: int, zone: tzinfo) -> int | None:
    """`90d` from now, a date or a time of day in `zone`; `never` is None. Raises UsageError."""
    if text == "never":
        return None
    at = _moment(text, now, 1, zone)
    if at <= now:
        raise UsageError(f"{text} has passed already.", hint=_WRITE_A_MOMENT)
    return at


def moment_ago(text: str, now: int, zone: tzinfo) -> int:
    """`2h` ago, or a date. Raises UsageError."""
    return _moment(text, now, -1, zone)


def duration(text: str) -> int:
    """Milliseconds of `24h`; `0` is none. Raises UsageError."""
    if text.strip() in {"0", "0s"}:
        return 0
    try:
        return parse_duration(text)
    except BadQuota as error:
        raise UsageError(str(error)) from None


def quotas(texts: Iterable[str], context: Context) -> tuple[Quota, ...]:
    """`--limit` as it is written. Raises UsageError."""
    read: list[Quota] = []
    for text in texts:
        try:
            quota = context.quota(text)
        except BadQuota as error:
            raise UsageError(str(error)) from None
        if any(str(quota.window) == str(other.window) and quota.unit is other.unit for other in read):
            raise UsageError(f"there are two limits of {quota.unit} in the same window; give one")
        read.append(quota)
    return tuple(read)


def amount(text: str, unit: Unit) -> int:
    """`200M` in the unit. Raises UsageError."""
    try:
        return parse_amount(text, unit)
    except BadQuota as error:
        raise UsageError(str(error)) from None


def names(texts: Sequence[str], what: str) -> frozenset[str]:
    """Names that were given one by one. Raises UsageError on an empty one or a list in one word."""
    for text in texts:
        if not text.strip() or text != text.strip() or "," in text or not text.isprintable():
            raise UsageError(
                f"{text!r} is not the name of a {what}.", hint=f"Repeat --{what} for more than one."
            )
    return frozenset(texts)


def name(text: str, what: str) -> str:
    """One name. Raises UsageError."""
    if not text.strip() or text != text.strip() or not text.isprintable() or len(text) > 256:
        raise UsageError(f"a {what}'s name is 1 to 256 printable characters without spaces around them.")
    return without_key(text)


def without_key(text: str) -> str:
    """Text that is kept and shown. Raises UsageError where an API key is in it, which is kept nowhere."""
    if holds_key(text):
        raise UsageError("there is an API key in this text, which would be kept and shown to many.")
    return text


def model(text: str) -> str:
    """A model's name, as the configuration takes it. Raises UsageError."""
    try:
        return model_name(text)
    except Wrong as error:
        raise UsageError(f"{error}.") from None


def team(text: str) -> str:
    """A team's name. Raises UsageError.

    It does not begin with `user:`: where somebody has no team, `user:NAME` is counted in its place.
    """
    if name(text, "team").startswith("user:"):
        raise UsageError("a team's name does not begin with `user:`.")
    return text


def spell_moment(at: int | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def spell_wait(seconds: float) -> str:
    """A time to wait, in the two largest units that matter: `3h 20m`."""
    whole = max(1, round(seconds)) if seconds > 0 else 0
    if whole < 60:
        return f"{whole}s"
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count)


def _moment(text: str, now: int, direction: int, zone: tzinfo) -> int:
    try:
        return now + direction * parse_duration(text)
    except BadQuota:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is neither a duration nor a date.", hint=_WRITE_A_MOMENT) from None
    return round((at if at.tzinfo is not None else at.replace(tzinfo=zone)).timestamp() * 1000)
