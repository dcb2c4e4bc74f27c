"""The most a request can use, known before it runs (invariant 5)."""

import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from authz.canonical import Target
from authz.peek import Peek
from authz.quota import Unit
from authz.request import BodyState, Request
from authz.store.records import Model, Price

TEMPLATE_OVERHEAD = 64  # tokens a chat template may add around the messages
UNSTATED_OUTPUT = 16_384  # tokens of an answer that nothing bounds: what the ledger reckons with
MILLION = 10**6
_WITHOUT_OUTPUT = frozenset({"/v1/embeddings"})
_FREE = Price()
_text = msgspec.json.Decoder(str)


class Bound(Struct, frozen=True, kw_only=True):
    """The most that one request can use.

    `sure` is false where nothing says how much is read or written, neither the request nor the model:
    the figures are then a guess for the ledger, and no quota of tokens can be held by them.
    """

    input: int = 0  # tokens
    output: int = 0  # tokens of all answers together
    cost: int = 0  # 1e-9 of the currency
    answer: int = 0  # tokens of one answer; 0: there is none
    answers: int = 1
    sure: bool = True

    def of(self, unit: Unit) -> int:
        """In the unit."""
        return _OF[unit](self)


_OF: Mapping[Unit, Callable[[Bound], int]] = {
    Unit.REQUESTS: lambda bound: 1,
    Unit.CONCURRENCY: lambda bound: 1,
    Unit.TOKENS: lambda bound: bound.input + bound.output,
    Unit.INPUT_TOKENS: lambda bound: bound.input,
    Unit.OUTPUT_TOKENS: lambda bound: bound.output,
    Unit.COST: lambda bound: bound.cost,
}

_NOTHING = Bound()


def bound_of(request: Request, target: Target, peek: Peek, name: str | None, model: Model | None) -> Bound:
    """The bound of a request for the model of that name. A token is at least one byte of UTF-8."""
    if name is None and request.body_state is BodyState.NONE:
        return _NOTHING  # the list of models, a health check
    context = model.context if model is not None else None
    elsewhere = request.body_state is not BodyState.NONE and (
        not peek.size or reads_elsewhere(request.body)  # what was not looked at may hold anything
    )
    read = len(request.body) + TEMPLATE_OVERHEAD * peek.prompts
    if elsewhere and context is not None:
        read = max(read, context * peek.prompts)
    answers, limit, sure = peek.choices * peek.prompts, 0, context is not None or not elsewhere
    if target.path not in _WITHOUT_OUTPUT:
        limit = peek.max_output or (model.max_output if model is not None else None) or context or 0
        if not limit:
            limit, sure = UNSTATED_OUTPUT, False
    return Bound(
        input=read,
        output=limit * answers,
        cost=cost_of(read, limit * answers, model.price if model is not None else _FREE),
        answer=limit,
        answers=answers,
        sure=sure,
    )


def cost_of(read: int, written: int, price: Price) -> int:
    """What so many tokens cost at most, in 1e-9 of the currency, rounded up."""
    return -(-(read * price.input + written * price.output) // MILLION)


# What a model reads from elsewhere. Inside a text the quotes would be escaped: only names and values match.
_ELSEWHERE = frozenset(
    {"image", "image_url", "input_image", "input_file", "file", "document"}
    | {"input_audio", "video_url", "audio_url", "previous_response_id"}
)
_POINTER = re.compile(b'"(?:%s)"' % "|".join(sorted(_ELSEWHERE)).encode())
_DISGUISE = re.compile(rb'"(?:[a-z_]|\\u00[0-9a-fA-F]{2}){4,20}"')  # a word, some letters perhaps as escapes


def reads_elsewhere(body: bytes) -> bool:
    """Whether JSON points at what is not in it: images, files, audio, an earlier response (invariant 5)."""
    if _POINTER.search(body) is not None:
        return True
    if b"\\u00" not in body:
        return False
    return any(b"\\" in word and _text.decode(word) in _ELSEWHERE for word in _DISGUISE.findall(body))
