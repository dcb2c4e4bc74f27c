"""The most a request can cost, known before it runs (invariant 5)."""

from authz.limit.spending import Spending
from authz.quota import Unit

TEMPLATE_OVERHEAD = 64  # tokens a chat template may add around the messages
MILLION = 10**6


def upper_bound(unit: Unit, spending: Spending) -> int:
    """In the unit. A token is at least one byte of UTF-8, so bytes bound the input."""
    if unit in (Unit.REQUESTS, Unit.CONCURRENCY):
        return 1
    peek, model = spending.peek, spending.known
    context = model.context if model is not None else None
    read = peek.size + TEMPLATE_OVERHEAD * peek.prompts
    limit = peek.max_output or (model.max_output if model is not None else None) or context or 0
    written = limit * peek.choices * peek.prompts
    if unit is Unit.INPUT_TOKENS:
        return read
    if unit is Unit.OUTPUT_TOKENS:
        return written
    if unit is Unit.TOKENS:
        return read + written
    price = model.price if model is not None else None
    return -(-(read * price.input + written * price.output) // MILLION) if price is not None else 0
