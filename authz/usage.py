"""What one request used, in tokens."""

from msgspec import Struct


class Usage(Struct, frozen=True, gc=False):
    """Tokens as a model server counted them. `cached` is part of `input`, `reasoning` part of `output`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0


NO_USAGE = Usage()
