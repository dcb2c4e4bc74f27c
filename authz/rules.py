"""Everything that configuration decides, compiled and frozen. A reload swaps it whole."""

from msgspec import Struct

from authz.catalog import Catalog
from authz.route import Route
from authz.upstream import Backend


class Rules(Struct, frozen=True, kw_only=True):
    """One valid configuration in force."""

    digest: str  # of the file it came from; /readyz shows it
    routes: tuple[Route, ...]
    catalog: Catalog
    backends: tuple[Backend, ...] = ()
    rate_headers: bool = True
