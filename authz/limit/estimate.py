"""The most a request can use, known before it runs (invariant 5)."""

import re
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from msgspec import Struct

from authz.canonical import Target
from authz.edit_request import LIMITS_OF
from authz.limit.growth import growth
from authz.limit.pairs import PAIRS, pairs_of
from authz.peek import ELSEWHERE, OUTPUT_LIMITS, Peek
from authz.quota import Unit
from authz.request import BodyState, Request
from authz.store.records import Model, Price

TEMPLATE_OVERHEAD = 64  # tokens a chat template may add around the messages
TOOLS_OVERHEAD = 600  # tokens that a template says about tools before it prints them (Claude 3 Opus: 530)
UNSTATED_OUTPUT = 16_384  # tokens of an answer that nothing bounds: what the ledger reckons with
MILLION = 10**6
FREE = Price()

CountInput = Callable[[bytes], Awaitable[int | None]]
"""Tokens of a JSON body's input; None where it is not counted."""

_WITHOUT_OUTPUT = frozenset(
    {"/v1/embeddings", "/v1/moderations", "/v1/messages/count_tokens", "/tokenize", "/detokenize"}
    | {"/classify", "/pooling", "/v1/classify", "/v1/pooling"}
)
_text = msgspec.json.Decoder(str)


class Bound(Struct, frozen=True, kw_only=True, gc=False):
    """The most that one request can use.

    `sure` is false where nothing says how much is read or written, neither the request nor the model:
    the figures are then a guess for the ledger, and no quota of tokens can be held by them.
    """

    input: int = 0  # tokens
    answer: int = 0  # tokens of one answer; 0: there is none
    answers: int = 1
    inputs: int = 1  # prompts, texts to embed, documents to rank
    price: Price = FREE
    sure: bool = True
    sure_input: bool = True

    @property
    def output(self) -> int:
        """Tokens of all answers together."""
        return self.answer * self.answers

    @property
    def cost(self) -> int:
        """In 1e-9 of the currency, rounded up."""
        return -(-(self.input * self.price.input + self.output * self.price.output) // MILLION)

    def with_answer(self, tokens: int) -> "Bound":
        """The bound if an answer has at most so many tokens."""
        return Bound(
            input=self.input,
            answer=tokens,
            answers=self.answers,
            inputs=self.inputs,
            price=self.price,
            sure=self.sure_input,
            sure_input=self.sure_input,
        )


BOUND_IN: Mapping[Unit, Callable[[Bound], int]] = {
    Unit.REQUESTS: lambda bound: 1,
    Unit.CONCURRENCY: lambda bound: 1,
    Unit.TOKENS: lambda bound: bound.input + bound.output,
    Unit.INPUT_TOKENS: lambda bound: bound.input,
    Unit.OUTPUT_TOKENS: lambda bound: bound.output,
    Unit.COST: lambda bound: bound.cost,
}
"""The most that a request can use, in each unit."""

_NOTHING = Bound()


def bound_of(
    request: Request,
    target: Target,
    peek: Peek,
    name: str | None,
    model: Model | None,
    counted: int | None = None,
) -> Bound:
    """The bound of a request for the model of that name.

    A token is at least one byte of UTF-8, of the text as it is printed and normalized. `counted`: tokens of
    the input, where a tokenizer counted them.
    """
    has_body = request.body_state is not BodyState.NONE
    if name is None and not has_body:
        return _NOTHING  # the list of models, a health check
    path, body, context = target.path, request.body, model.context if model is not None else None
    pairs = path in PAIRS
    inputs, repeated = pairs_of(body) if pairs and peek.size else (peek.prompts, 0)
    read, overhead = len(body), TEMPLATE_OVERHEAD * inputs + TOOLS_OVERHEAD * peek.tools
    if peek.size:
        read = peek.text + growth(body)
        if peek.printed:
            read += peek.printed if context is None else min(peek.printed, context)
    read += repeated + overhead
    if counted is not None and not repeated:
        read = min(read, counted + overhead)
    # What was not looked at may hold anything.
    elsewhere = has_body and (not peek.size or peek.points or (peek.hints and reads_elsewhere(body)))
    if elsewhere and context is not None:
        read = max(read, context * inputs)
    sure_input = context is not None or not elsewhere
    sure, answer = sure_input, 0
    if path not in _WITHOUT_OUTPUT and not pairs:
        limits = peek.limits
        if limits:
            answer = max([limits.get(name, 0) for name in LIMITS_OF.get(path, OUTPUT_LIMITS)])
        answer = answer or (model.max_output if model is not None else None) or context or 0
        if not answer:
            answer, sure = UNSTATED_OUTPUT, False
        # llama.cpp obeys `n_predict` before all, and whatever field there is where its own is not: what some
        # server may obey can raise the bound, not lower it.
        if limits:
            answer = max(answer, *limits.values())
    return Bound(
        input=read,
        answer=answer,
        answers=peek.choices * peek.prompts,
        inputs=inputs,
        price=model.price if model is not None else FREE,
        sure=sure,
        sure_input=sure_input,
    )


_POINTER = re.compile(b'"(?:%s)"' % "|".join(sorted(ELSEWHERE)).encode())
_DISGUISE = re.compile(rb'"(?:[a-z_]|\\u00[0-9a-fA-F]{2}){4,20}"')  # a word, some letters perhaps as escapes


def reads_elsewhere(body: bytes) -> bool:
    """Whether JSON points at what is not in it: images, files, audio, an earlier response (invariant 5)."""
    if _POINTER.search(body) is not None:
        return True
    if b"\\u00" not in body:
        return False
    return any(b"\\" in word and _text.decode(word) in ELSEWHERE for word in _DISGUISE.findall(body))
