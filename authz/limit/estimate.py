"""The most a request can cost, known before it runs (invariant 5)."""

from authz.limit.spending import Spending
from authz.quota import Unit
from authz.request import BodyState

TEMPLATE_OVERHEAD = 64  # tokens a chat template may add around the messages
MILLION = 10**6
OUTPUT_UNITS = frozenset({Unit.TOKENS, Unit.OUTPUT_TOKENS, Unit.COST})
_WITHOUT_OUTPUT = frozenset({"/v1/embeddings"})


def asks_no_model(spending: Spending) -> bool:
    """A request that names no model and has no body costs no tokens: the list of models, a health check."""
    return spending.model is None and spending.request.body_state is BodyState.NONE


def is_unbounded(spending: Spending) -> bool:
    """Whether nothing says how much the answer may be: neither the request nor the model."""
    if asks_no_model(spending) or spending.peek.max_output is not None:
        return False
    if spending.target.path in _WITHOUT_OUTPUT:
        return False
    model = spending.known
    return model is None or (model.max_output is None and model.context is None)


def upper_bound(unit: Unit, spending: Spending) -> int:
    """In the unit. A token is at least one byte of UTF-8, so bytes bound the input."""
    if unit in (Unit.REQUESTS, Unit.CONCURRENCY):
        return 1
    if asks_no_model(spending):
        return 0
    peek, model = spending.peek, spending.known
    context = model.context if model is not None else None
    read = peek.size + TEMPLATE_OVERHEAD * peek.prompts
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
