"""What a request is about to spend, for whom and on what."""

from msgspec import Struct

from authz.authenticate.presented import Presented
from authz.canonical import Target
from authz.limit.estimate import Bound
from authz.peek import Peek
from authz.request import Request
from authz.store.records import Model
from authz.subject import Subject


class Spending(Struct, frozen=True, kw_only=True, gc=False):
    """Everything that a policy may look at. `model` is what the request names, `known` its record."""

    request: Request
    target: Target
    presented: Presented
    subject: Subject
    route: str
    model: str | None
    known: Model | None
    peek: Peek
    bound: Bound
