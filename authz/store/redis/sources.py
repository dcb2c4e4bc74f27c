"""The Lua that runs inside Redis."""

from importlib.resources import files


def source(name: str) -> str:
    """The text of `lua/NAME.lua`."""
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
