"""What goes to the backend: identity, its credential, and nothing of the client's."""

from collections.abc import Mapping
from urllib.parse import unquote_plus

from msgspec import Struct

from authz.decision import Header
from authz.request import Request

# Always taken off the request; the backend's own credential may then take Authorization's place.
CREDENTIAL_HEADERS = ("authorization", "proxy-authorization", "x-api-key")


class Credential(Struct, frozen=True):
    """The header by which we prove ourselves to a backend; its value is in no repr."""

    header: str  # lower case
    value: str

    def __repr__(self) -> str:
        return f"Credential({self.header})"


class Backend(Struct, frozen=True, kw_only=True):
    """A model server."""

    name: str
    models: frozenset[str] | None  # None: any
    credential: Credential | None = None


def choose(backends: tuple[Backend, ...], model: str | None) -> Backend | None:
    """The first backend that serves the model; a request that names none goes to the only one there is."""
    for backend in backends:
        if backend.models is None or model in backend.models:
            return backend
    return backends[0] if model is None and len(backends) == 1 else None


def without_params(query: str, names: frozenset[str]) -> str | None:
    """The query without credential parameters; None when it held none of them."""
    kept = [pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) not in names]
    return "&".join(kept) if len(kept) != query.count("&") + 1 else None


def without_cookies(headers: Mapping[str, str], names: frozenset[str]) -> str | None:
    """The Cookie header without credential cookies; None when it held none of them."""
    cookie = headers.get("cookie")
    if cookie is None:
        return None
    pairs = [pair.strip() for pair in cookie.replace(", ", "; ").split(";")]
    kept = [pair for pair in pairs if pair.partition("=")[0] not in names]
    return "; ".join(kept) if len(kept) != len(pairs) else None


def strip_credentials(
    request: Request, query: str, params: frozenset[str], cookies: frozenset[str]
) -> tuple[str | None, list[Header], tuple[str, ...]]:
    """A rewritten query (or None), a Cookie header to set, header names to remove."""
    rewritten = without_params(query, params) if params and query else None
    if not cookies:
        return rewritten, [], ()
    cookie = without_cookies(request.headers, cookies)
    if cookie is None:
        return rewritten, [], ()
    return (rewritten, [("cookie", cookie)], ()) if cookie else (rewritten, [], ("cookie",))
