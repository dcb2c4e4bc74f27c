"""Who is it? One file per kind of credential, one answer type for all of them."""

from authz.authenticate.combine import AllOf, AnyOf
from authz.authenticate.presented import Presented, Slot
from authz.authenticate.protocol import Authenticator, Outcome, Refused

__all__ = ["AllOf", "AnyOf", "Authenticator", "Outcome", "Presented", "Refused", "Slot"]
