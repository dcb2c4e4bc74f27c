"""Is a signed token meant for us, and now? (RFC 7519 4.1)"""

from typing import Any

from authz.authenticate.jwt_settings import JwtSettings
from authz.authenticate.protocol import Refused
from authz.reason import Reason

LATEST = 253_402_300_799  # the last second of the year 9999
FOREVER = 2**63 - 1


def check(claims: dict[str, Any], settings: JwtSettings, now_ms: int) -> int | Refused:
    """Until when the token is valid (ms since the epoch, leeway included), or why it is not.

    Exact types only: no `iss` that contains an issuer, no time as a string, list or bool (attacks 64, 65).
    """
    return _meant_elsewhere(claims, settings) or _until(claims, settings, now_ms)


def _meant_elsewhere(claims: dict[str, Any], settings: JwtSettings) -> Refused | None:
    issuer = claims.get("iss")
    if issuer is not None and not isinstance(issuer, str):
        return Refused(Reason.TOKEN_INVALID, "`iss` is not a string.")
    if settings.issuers and issuer not in settings.issuers:
        return Refused(Reason.TOKEN_WRONG_ISSUER)
    audience = claims.get("aud", [])
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
        return Refused(Reason.TOKEN_INVALID, "`aud` is neither a string nor a list of strings.")
    if (settings.audiences or audiences) and settings.audiences.isdisjoint(audiences):
        return Refused(Reason.TOKEN_WRONG_AUDIENCE)
    return None


def _until(claims: dict[str, Any], settings: JwtSettings, now_ms: int) -> int | Refused:
    times: dict[str, int] = {}
    for name in ("exp", "nbf", "iat"):
        if name in claims:
            moment = claims[name]
            if isinstance(moment, bool) or not isinstance(moment, (int, float)) or not 0 <= moment <= LATEST:
                return Refused(Reason.TOKEN_INVALID, f"`{name}` is not a time in seconds.")
            times[name] = int(moment * 1000)
    leeway = settings.leeway_ms
    until = times["exp"] + leeway if "exp" in times else FOREVER
    if until == FOREVER and settings.require_exp:
        return Refused(Reason.TOKEN_INVALID, "The token has no `exp`, and one is required.")
    if now_ms >= until:
        return Refused(Reason.TOKEN_EXPIRED)
    if now_ms < max(times.get("nbf", 0), times.get("iat", 0)) - leeway:
        return Refused(Reason.TOKEN_NOT_YET_VALID)
    return until
