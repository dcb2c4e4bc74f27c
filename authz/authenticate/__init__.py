"""Who is it? One file per kind of credential, one answer type for all of them."""

from authz.authenticate.protocol import Authenticator, Outcome, Refused

__all__ = ["Authenticator", "Outcome", "Refused"]
