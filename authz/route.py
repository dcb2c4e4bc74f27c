"""Which route a request takes: method, path, API family, host, headers. No match, no entry."""

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from authz.authenticate.combine import Combined
from authz.authorize import Rule
from authz.canonical import Target
from authz.course import Courses
from authz.edit_request import IncludeUsage
from authz.limit.admission import Admission
from authz.limit.caps import Caps
from authz.preference import Offer
from authz.request import Request

# What each API family consists of (OpenAI API reference; Anthropic Messages API); the body names a model.
FAMILIES: dict[str, dict[str, frozenset[str]]] = {
    "openai": {
        "POST": frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"}),
        "GET": frozenset({"/v1/models"}),
    },
    "anthropic": {
        "POST": frozenset({"/v1/messages"}),
        "GET": frozenset({"/v1/models"}),
    },
}


class PathPattern(Struct, frozen=True):
    """`/v1/x` is exact, `/v1/*` a prefix on a segment border, `/v1/{model}/x` a template."""

    text: str
    regex: re.Pattern[str] | None
    prefix: str | None

    @classmethod
    def parse(cls, text: str) -> "PathPattern":
        """Raises ValueError with what would be right."""
        if not text.startswith("/"):
            raise ValueError(f"the path {text!r} must begin with a slash")
        if text == "/*":
            return cls(text, None, "/")
        stem, star, rest = text.partition("*")
        if star and (rest or not stem.endswith("/")):
            raise ValueError(f"in the path {text!r} a star may only stand alone as the last segment")
        if "{" in text or "}" in text:
            return cls(text, _template(text), None)
        return cls(text, None, stem if star else None)

    @property
    def is_exact(self) -> bool:
        return self.regex is None and self.prefix is None

    def match(self, path: str) -> Mapping[str, str] | None:
        """The template's variables, empty for the other forms; None: no match."""
        if self.regex is not None:
            found = self.regex.fullmatch(path)
            return found.groupdict() if found else None
        if self.prefix is not None:
            # "/v1/*" takes /v1/x and /v1/x/y, not /v1 itself and never /v1x (attack 11).
            return (
                _NO_VARIABLES
                if (path.startswith(self.prefix) and len(path) > len(self.prefix)) or self.prefix == "/"
                else None
            )
        return _NO_VARIABLES if path == self.text else None


_NO_VARIABLES: Mapping[str, str] = {}
_VARIABLE = re.compile(r"\{([a-z_][a-z0-9_]*)\}\Z")


def _template(text: str) -> re.Pattern[str]:
    """One segment per variable: no operator-written regex, so nothing to backtrack (attack 12)."""
    parts = []
    for segment in text.split("/")[1:]:
        variable = _VARIABLE.match(segment)
        if variable:
            parts.append(f"/(?P<{variable[1]}>[^/]+)")
        elif "{" in segment or "}" in segment:
            raise ValueError(
                f"in the path {text!r} a variable must be a whole segment, such as /v1/{{model}}/x"
            )
        else:
            parts.append("/(?:.*)" if segment == "*" else "/" + re.escape(segment))
    return re.compile("".join(parts))


class Match(Struct, frozen=True, kw_only=True):
    """What a route asks of a request. Every part that is given must hold."""

    methods: frozenset[str] = frozenset()
    paths: tuple[PathPattern, ...] = ()
    families: tuple[str, ...] = ()
    hosts: frozenset[str] = frozenset()
    headers: tuple[tuple[str, str | None], ...] = ()  # None: present with any value

    def __call__(self, target: Target, request: Request) -> Mapping[str, str] | None:
        if self.families and not any(
            target.path in FAMILIES[f].get(target.method, ()) for f in self.families
        ):
            return None
        if self.methods and target.method not in self.methods:
            return None
        if self.hosts and not self._host(target.host):
            return None
        for name, value in self.headers:
            if name in request.repeated or (name not in request.headers):
                return None
            if value is not None and request.headers[name] != value:
                return None
        if not self.paths:
            return _NO_VARIABLES if self.families else None
        for pattern in self.paths:
            variables = pattern.match(target.path)
            if variables is not None:
                return variables
        return None

    @property
    def written_out(self) -> frozenset[str]:
        """The paths that are named as they are."""
        exact = frozenset([pattern.text for pattern in self.paths if pattern.is_exact])
        return exact.union(*[paths for family in self.families for paths in FAMILIES[family].values()])

    @property
    def is_open(self) -> bool:
        """Whether it takes paths that are not written out."""
        return not self.families and not all(pattern.is_exact for pattern in self.paths)

    def _host(self, host: str) -> bool:
        if host in self.hosts:
            return True
        _, dot, parent = host.partition(".")
        return bool(dot) and f"*.{parent}" in self.hosts


class Route(Struct, frozen=True, kw_only=True):
    """A route with everything that a decision on it needs, prepared at load time."""

    name: str
    match: Match
    authenticate: Combined
    authorize: tuple[Rule, ...]
    courses: Courses
    needs_model: bool  # a rule or a limit looks at the model, or at what the body asks for
    reads_body: bool  # an API family's route: the body must be valid JSON
    challenge: str  # WWW-Authenticate of its 401
    authenticators: frozenset[str] = frozenset()  # their names
    remove: tuple[str, ...] = ()  # request headers that never go upstream: every slot of a credential
    credential_params: frozenset[str] = frozenset()
    credential_cookies: frozenset[str] = frozenset()
    include_usage: IncludeUsage = True
    admission: Admission | None = None  # None: the model's
    caps: Caps | None = None
    preferences: Offer | None = None
    request_id_header: str | None = None  # of the client's own id


class Finder:
    """Finds the first route that matches. Those that can take a path are known before it comes."""

    __slots__ = ("_by_path", "_open")

    def __init__(self, routes: Sequence[Route]) -> None:
        self._open = tuple([route for route in routes if route.match.is_open])
        paths = frozenset[str]().union(*[route.match.written_out for route in routes])
        self._by_path = {
            path: tuple([each for each in routes if each.match.is_open or path in each.match.written_out])
            for path in paths
        }

    def __call__(self, target: Target, request: Request) -> tuple[Route, Mapping[str, str]] | None:
        """The route, with its path variables."""
        for route in self._by_path.get(target.path, self._open):
            variables = route.match(target, request)
            if variables is not None:
                return route, variables
        return None
