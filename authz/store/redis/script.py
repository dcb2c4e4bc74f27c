"""Lua scripts as they are sent: put together from small files, known to the server by their text alone."""

from hashlib import sha1

from authz.store.redis.sources import source


class Script:
    """A script. Another text is another script, so that processes of two versions never run each other's."""

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()  # as Redis names it

    def __repr__(self) -> str:
        return f"Script({self.name!r}, {self.sha})"


def compose(name: str, *parts: str, **numbers: int) -> Script:
    """`lua/NAME.lua` behind the `parts` (each `lua/PART.lua`) that it stands on; all know `numbers` by name."""
    constants = "".join(f"local {key} = {number}\n" for key, number in numbers.items())
    return Script(name, constants + "\n".join(source(part) for part in (*parts, name)))
