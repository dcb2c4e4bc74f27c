"""What a usage costs, and what of it each counter is charged."""

from authz.quota import MAX_AMOUNT, Unit
from authz.store.records import Price
from authz.usage import Usage

MILLION = 10**6


def cost_of(usage: Usage, price: Price) -> int:
    """In 1e-9 of the currency, rounded up. Prices are per million tokens."""
    cached = price.input if price.cached_input is None else price.cached_input
    total = (usage.input - usage.cached) * price.input + usage.cached * cached + usage.output * price.output
    return min(-(-total // MILLION), MAX_AMOUNT)


def charges(usage: Usage, cost: int) -> dict[Unit, int]:
    """For `Counters.settle`. Requests are not in it: they stay as held."""
    return {
        Unit.TOKENS: usage.input + usage.output,
        Unit.INPUT_TOKENS: usage.input,
        Unit.OUTPUT_TOKENS: usage.output,
        Unit.COST: cost,
    }
