"""What a request says, where its route looks at it: its own id, its body, its model, its model server."""

from collections.abc import Mapping

from authz import upstream
from authz.authenticate.presented import Presented
from authz.authorize import Asked
from authz.canonical import Target
from authz.header_text import is_request_id
from authz.peek import NOTHING, Peek, peek
from authz.preference import Wishes
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Request
from authz.route import Route
from authz.rules import Rules


def own_id(request: Request, header: str) -> str | Refusal:
    """The client's own id. For people: a request is never told apart by it (attack 106)."""
    theirs = request.headers.get(header)
    if not theirs:
        return request.request_id
    if header not in request.repeated and is_request_id(theirs):
        return theirs
    text = f"The header {header} must be one id: letters, digits and . _ : -, at most 128 of them."
    return Refusal(Reason.BAD_HEADER, text, header)


def read_body(taken: Route, target: Target, request: Request) -> Peek | Refusal:
    """The body, where the route looks at it. A body is never guessed at."""
    if not taken.reads_body and not taken.needs_model:
        return NOTHING
    if target.method in ("GET", "HEAD", "OPTIONS") and request.body_state is BodyState.NONE:
        return NOTHING
    if request.body_state is BodyState.NONE and taken.reads_body:
        return Refusal(Reason.BODY_REQUIRED)
    return peek(request)


def model_of(
    seen: Peek, target: Target, variables: Mapping[str, str], presented: Presented, header: str | None
) -> str | Refusal | None:
    """The one model that body, path, query and header agree on (attacks 20, 21)."""
    named = {name for name in (seen.model, variables.get("model"), header) if name is not None}
    if "model=" in target.query or "%" in target.query:
        named.update(presented.query.get("model", ()))
    if len(named) > 1:
        return Refusal(Reason.MODEL_CONFLICT, param="model")
    return named.pop() if named else None


def too_long(seen: Peek, asked: Asked) -> Refusal | None:
    """More output than the model may produce is an error, not something to be cut (invariant 5)."""
    most = asked.known.max_output if asked.known is not None else None
    if most is None or seen.max_output is None or seen.max_output <= most:
        return None
    text = f"The model {asked.model} produces at most {most} tokens; {seen.max_output} were asked for."
    return Refusal(Reason.TOO_MANY_OUTPUT_TOKENS, text, "max_tokens")


def nowhere(taken: Route, wishes: Wishes, model: str | None, rules: Rules) -> Refusal | None:
    """A target that does not serve the model; or none, where no model server serves the request by itself."""
    target, offer = wishes.target, taken.preferences
    if target is not None:
        if target.models is None or model is None or model in target.models:
            return None
        return Refusal(Reason.TARGET_NOT_ALLOWED, "The target does not serve the model.", "target_host")
    if not rules.backends or upstream.choose(rules.backends, model) is not None:
        return None
    if offer is not None and offer.targets:
        return Refusal(Reason.TARGET_NOT_ALLOWED, "Nothing here serves the request by itself. Name a target.")
    if model is None:
        text = "Several model servers stand behind this: name a model."
        return Refusal(Reason.MODEL_REQUIRED, text, "model")
    return Refusal(Reason.MODEL_UNKNOWN, param="model")
