"""`when:` conditions in CEL, checked and compiled once at load.

https://github.com/cel-expr/cel-spec · https://pypi.org/project/cel-expr-python (the reference implementation)
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache, lru_cache
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import parse_qsl

from authz.authorize.rules import Asked, Meets

Reader = Callable[[Asked], Any]


def _parameters(query: str) -> dict[str, str]:
    """Raises ValueError where one came twice: of two some servers take the first, and others the last."""
    pairs = parse_qsl(query, keep_blank_values=True)
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise ValueError("a parameter came twice")
    return parameters


_READERS: Mapping[str, tuple[str, Reader]] = {
    "request.method": ("string", lambda asked: asked.target.method),
    "request.path": ("string", lambda asked: asked.target.path),
    "request.host": ("string", lambda asked: asked.target.host),
    "request.scheme": ("string", lambda asked: asked.request.scheme),
    "request.headers": ("texts", lambda asked: asked.request.headers),
    "request.query": ("texts", lambda asked: _parameters(asked.target.query)),
    "request.gateway": ("string", lambda asked: asked.request.gateway.name),
    "request.stream": ("bool", lambda asked: asked.peek.stream),
    "request.max_tokens": ("int", lambda asked: asked.peek.max_output or 0),
    "request.size": ("int", lambda asked: len(asked.request.body)),
    "subject.user": ("string", lambda asked: asked.subject.user),
    "subject.team": ("string", lambda asked: asked.subject.team or ""),
    "subject.key": ("string", lambda asked: asked.subject.key or ""),
    "subject.roles": ("list", lambda asked: asked.subject.roles),
    "subject.scopes": ("list", lambda asked: asked.subject.scopes),
    "subject.authenticator": ("string", lambda asked: asked.subject.authenticator),
    "claims": ("any", lambda asked: asked.subject.claims),
    "model": ("string", lambda asked: asked.model or ""),
    "ip": ("string", lambda asked: asked.request.ip or ""),
    "now": ("timestamp", lambda asked: datetime.fromtimestamp(asked.now / 1000, UTC)),
}

VARIABLES = tuple(_READERS)
"""What a condition may look at. Missing text is empty, a missing number 0."""

FUNCTIONS = ("in_network",)
"""Beside those of CEL: `in_network(ip, '10.0.0.0/8')`."""

MOST_KEPT = 4096
"""Outcomes of one condition that are kept."""

_UNLIKE = frozenset({"texts", "any", "timestamp"})  # kinds of which no two requests need have the same
_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']+)'")
_NETWORK = re.compile(r"in_network\s*\([^,()]*,\s*(['\"])([^'\"]*)\1")


class BadCondition(ValueError):
    """Says what is wrong in a sentence; `offset` is where in the text, `suggestion` what was meant."""

    def __init__(self, message: str, offset: int | None = None, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.suggestion = suggestion


def compile_condition(text: str) -> Meets:
    """The rule for an expression that is true or false. Raises BadCondition."""
    try:
        program = _environment().compile(text)
    except RuntimeError as error:
        raise _located(text, str(error)) from None
    kind = program.return_type().name()
    if kind not in ("BOOL", "DYN"):
        raise BadCondition(f"the condition is no condition: it gives {kind.lower()}, not true or false")
    for network in _NETWORK.finditer(text):
        if _network(network[2]) is None:
            message = f"{network[2]!r} is not a network; write for example 10.0.0.0/8"
            raise BadCondition(message, network.start(2))
    names = [name for name in VARIABLES if _names(text, name)]
    readers = [_READERS[name][1] for name in names]

    def met(*values: Any) -> bool | None:
        plain = [sorted(value) if isinstance(value, frozenset) else value for value in values]
        found = program.eval(data=dict(zip(names, plain, strict=True))).value()
        return found if isinstance(found, bool) else None

    # Most callers come again, with the same values; and by nothing else does the outcome differ.
    if _UNLIKE.isdisjoint(_READERS[name][0] for name in names):
        met = lru_cache(maxsize=MOST_KEPT)(met)

    def run(asked: Asked) -> bool | None:
        return met(*[read(asked) for read in readers])

    return Meets(text, run, "model" in names)


def _names(text: str, variable: str) -> bool:
    """Whether the text may mean it. One too many costs a look, no more."""
    return re.search(r"\b" + r"\s*\.\s*".join(variable.split(".")) + r"\b", text) is not None


@cache
def _environment() -> Any:
    """Every variable by its whole name, so that one that does not exist is a mistake at load."""
    from cel_expr_python import cel  # a library of some megabytes: only where there is a condition

    kinds = {
        "string": cel.Type.STRING,
        "bool": cel.Type.BOOL,
        "int": cel.Type.INT,
        "list": cel.Type.List(cel.Type.STRING),
        "texts": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
        "any": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "timestamp": cel.Type.TIMESTAMP,
    }
    within = cel.Overload(
        "in_network_string_string",
        return_type=cel.Type.BOOL,
        parameters=[cel.Type.STRING, cel.Type.STRING],
        impl=in_network,
    )
    return cel.NewEnv(
        variables={name: kinds[kind] for name, (kind, _) in _READERS.items()},
        functions=[cel.FunctionDecl("in_network", [within])],
    )


@lru_cache(maxsize=MOST_KEPT)
def in_network(ip: str, network: str) -> bool:
    """Whether the address is in the network. One that is not known is in none."""
    known = _network(network)
    return known is not None and ip != "" and ip_address(ip) in known


@lru_cache(maxsize=1024)
def _network(text: str) -> Any:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _located(text: str, said: str) -> BadCondition:
    """The first mistake, in our words where ours are plainer."""
    found = _ERROR.search(said)
    if found is None:
        return BadCondition("the condition does not parse")
    line, column, what = int(found[1]), int(found[2]), found[3]
    offset = sum(len(each) for each in text.splitlines(keepends=True)[: line - 1]) + column - 1
    undeclared = _UNDECLARED.match(what)
    if undeclared is not None:
        return _unknown(text, undeclared[1], offset)
    what = what.partition(" (in container")[0].removesuffix(" [INVALID_ARGUMENT]")
    if what.startswith("Syntax error: "):
        what = (
            f"the condition does not parse: {what.removeprefix('Syntax error: ').partition(' expecting')[0]}"
        )
    return BadCondition(what, min(offset, len(text)))


def _unknown(text: str, name: str, offset: int) -> BadCondition:
    near = get_close_matches(name, (*VARIABLES, *FUNCTIONS), n=1)
    begin = text.rfind(name.partition(".")[0], 0, offset + len(name))
    message = f"the condition uses {name}, which does not exist; there are {', '.join(VARIABLES)}"
    return BadCondition(message, begin if begin >= 0 else None, near[0] if near else None)
