"""`when:` conditions in CEL, compiled once at load (cel-spec, common-expression-language)."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from authz.authorize.rules import Asked, Meets

VARIABLES = frozenset({"request", "subject", "claims", "model", "ip"})


class BadCondition(ValueError):
    """Says what is wrong in a sentence; `offset` is where in the text, if that is known."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


def compile_condition(text: str) -> Meets:
    """The rule for an expression. Raises BadCondition."""
    import cel  # brings a command line along, a tenth of a second of start: only where there is a condition

    try:
        program = cel.compile(text)
    except ValueError as error:
        said = _first_error(str(error))
        raise BadCondition(f"the condition does not parse: {said}", _offset(said)) from None
    variables: frozenset[str] = frozenset(program.variables())
    unknown = sorted(variables - VARIABLES)
    if unknown:
        names = ", ".join(sorted(VARIABLES))
        message = f"the condition uses {', '.join(unknown)}, which does not exist; there are {names}"
        raise BadCondition(message, text.find(unknown[0]))

    def run(asked: Asked) -> Any:
        return program.execute({name: _READERS[name](asked) for name in variables})

    return Meets(text, run, "model" in variables)


def _first_error(text: str) -> str:
    line = text.partition("ERROR: <input>:")[2].partition("\n")[0] or text.partition("\n")[0]
    return "at " + line if line[:1].isdigit() else line


def _offset(said: str) -> int | None:
    """The compiler counts from 1, and lines too; only the first line is one with the text in the file."""
    place = re.match(r"at 1:(\d+):", said)
    return int(place[1]) - 1 if place else None


def _request(asked: Asked) -> Mapping[str, Any]:
    target = asked.target
    return {
        "method": target.method,
        "path": target.path,
        "host": target.host,
        "headers": dict(asked.request.headers),
        "gateway": asked.request.gateway.name,
        "stream": asked.peek.stream,
    }


def _subject(asked: Asked) -> Mapping[str, Any]:
    subject = asked.subject
    return {
        "user": subject.user,
        "team": subject.team or "",
        "key": subject.key or "",
        "roles": sorted(subject.roles),
        "scopes": sorted(subject.scopes),
        "authenticator": subject.authenticator,
    }


_READERS: dict[str, Callable[[Asked], Any]] = {
    "request": _request,
    "subject": _subject,
    "claims": lambda asked: dict(asked.subject.claims),
    "model": lambda asked: asked.model or "",
    "ip": lambda asked: asked.request.ip or "",
}
