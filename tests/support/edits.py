"""What a gateway does with `x-authz-edit`, by the book: the reference for tests."""


def apply(edit: str, body: bytes) -> bytes:
    """The body as the gateway sends it on. ValueError where it cannot be changed exactly."""
    length, *splices = edit.split(" ")
    if int(length) != len(body):
        raise ValueError("the body has another length")
    parts, end = [], 0
    for splice in splices:
        place, equals, text = splice.partition("=")
        offset, plus, remove = place.partition("+")
        if not equals or not plus or int(offset) < end:
            raise ValueError(f"not a splice: {splice}")
        parts += [body[end : int(offset)], text.encode("ascii")]
        end = int(offset) + int(remove)
    return b"".join([*parts, body[end:]])
