"""A request on its way: what is known of it so far."""

from collections.abc import Sequence

from msgspec import Struct

from authz.canonical import Target
from authz.decision import LimitState, StageName
from authz.limit.admission import Admission
from authz.limit.estimate import Bound
from authz.preference import NO_WISHES, Wishes
from authz.request import Request
from authz.route import Route
from authz.subject import Subject
from authz.upstream import Backend


class Known(Struct, gc=False):
    """What is known of a request so far: a denial reports it, and `authz check` tells it stage by stage."""

    request: Request
    stage: StageName = "request"  # the one that is under way, and at the end the last
    target: Target | None = None
    route: Route | None = None
    subject: Subject | None = None
    model: str | None = None
    backend: Backend | None = None  # the model server; None: there is one, which the gateway knows
    bound: Bound | None = None  # the most that it may use
    admission: Admission = "worst_case"
    held: Bound | None = None  # less than the bound where the answer is limited, or expected to be short
    limits: Sequence[LimitState] = ()
    local: bool = False  # decided by this replica alone, because the store does not answer
    wishes: Wishes = NO_WISHES
    client_request_id: str = ""  # the client's own id; ours where it has none, and the route wants one
