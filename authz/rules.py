"""Everything that configuration decides, compiled and frozen. A reload swaps it whole."""

from collections.abc import Mapping

from msgspec import Struct

from authz.catalog import Catalog
from authz.limit.admission import Reckoning
from authz.route import Finder, Route
from authz.upstream import Backend

NO_RECKONINGS: Mapping[str, Reckoning] = {}


class Rules(Struct, frozen=True, kw_only=True):
    """One valid configuration in force."""

    digest: str  # of the file it came from; /readyz shows it
    routes: tuple[Route, ...]
    find: Finder  # of these routes
    catalog: Catalog
    reckonings: Mapping[str, Reckoning] = (
        NO_RECKONINGS  # of the models that are reckoned in a way of their own
    )
    backends: tuple[Backend, ...] = ()
    rate_headers: bool = True
