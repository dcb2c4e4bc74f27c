"""The most a request can cost, known before it runs (invariant 5)."""

import msgspec

from authz.limit.spending import Spending
from authz.quota import Unit
from authz.request import BodyState

TEMPLATE_OVERHEAD = 64  # tokens a chat template may add around the messages
MILLION = 10**6
_WITHOUT_OUTPUT = frozenset({"/v1/embeddings"})


def asks_no_model(spending: Spending) -> bool:
    """A request that names no model and has no body costs no tokens: the list of models, a health check."""
    return spending.model is None and spending.request.body_state is BodyState.NONE


# What a model reads from elsewhere. Inside a text the quotes would be escaped: only names and values match.
_ELSEWHERE = (
    *(b'"image_url"', b'"input_image"', b'"image"', b'"input_file"', b'"file"', b'"document"'),
    *(b'"input_audio"', b'"video_url"', b'"audio_url"', b'"previous_response_id"'),
)


def reads_elsewhere(body: bytes) -> bool:
    """Whether a body points at what is not in it: images, files, audio, an earlier response (invariant 5)."""
    if b"\\u" in body:  # a name may be spelled with escapes
        body = msgspec.json.encode(msgspec.json.decode(body))
    return any(marker in body for marker in _ELSEWHERE)


def is_unbounded(spending: Spending) -> bool:
    """Whether nothing says how much is read or written: neither the request nor the model."""
    if asks_no_model(spending):
        return False
    model = spending.known
    context = model.context if model is not None else None
    if context is not None:
        return False
    if spending.peek.size and reads_elsewhere(spending.request.body):
        return True
    if spending.peek.max_output is not None or spending.target.path in _WITHOUT_OUTPUT:
        return False
    return model is None or model.max_output is None


def upper_bound(unit: Unit, spending: Spending) -> int:
    """In the unit. A token is at least one byte of UTF-8, so bytes bound the input."""
    if unit in (Unit.REQUESTS, Unit.CONCURRENCY):
        return 1
    if asks_no_model(spending):
        return 0
    peek, model = spending.peek, spending.known
    context = model.context if model is not None else None
    read = peek.size + TEMPLATE_OVERHEAD * peek.prompts
    if context is not None and peek.size and reads_elsewhere(spending.request.body):
        read = max(read, context * peek.prompts)
    limit = peek.max_output or (model.max_output if model is not None else None) or context or 0
    written = 0 if spending.target.path in _WITHOUT_OUTPUT else limit * peek.choices * peek.prompts
    if unit is Unit.INPUT_TOKENS:
        return read
    if unit is Unit.OUTPUT_TOKENS:
        return written
    if unit is Unit.TOKENS:
        return read + written
    price = model.price if model is not None else None
    return -(-(read * price.input + written * price.output) // MILLION) if price is not None else 0
