"""The most that one request may be, whatever is left of any quota."""

from msgspec import Struct

from authz.limit.estimate import Bound
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import Request


class Caps(Struct, frozen=True, kw_only=True):
    """None: no cap."""

    characters: int | None = None  # of the body
    tokens: int | None = None  # input and output together, at most
    inputs: int | None = None

    def __call__(self, request: Request, bound: Bound, field: str) -> Refusal | None:
        """Why the request is too large. `field` is what its API calls the limit of an answer."""
        if self.characters is not None and len(request.body) > self.characters:
            found = len(request.body.decode("utf-8", "replace"))  # a character may be several bytes
            if found > self.characters:
                text = f"The body has {found} characters; at most {self.characters} are accepted here."
                return Refusal(Reason.BODY_TOO_LARGE, text)
        if self.inputs is not None and bound.inputs > self.inputs:
            text = f"The request has {bound.inputs} inputs; at most {self.inputs} are accepted here."
            return Refusal(Reason.BAD_PARAMETER, text)
        if self.tokens is None:
            return None
        if not bound.sure:
            text = f"Tokens are capped here, and nothing bounds them: send `{field}`, and text only."
            return Refusal(Reason.BAD_PARAMETER, text, field)
        if bound.input + bound.output > self.tokens:
            text = (
                f"The request may use {bound.input} tokens of input and {bound.output} of output; "
                f"at most {self.tokens} together are accepted here."
            )
            room = (self.tokens - bound.input) // bound.answers
            if bound.answer and room > 0:
                text += f" With `{field}` at most {room} it is accepted."
            return Refusal(Reason.BAD_PARAMETER, text, field if bound.answer else None)
        return None
