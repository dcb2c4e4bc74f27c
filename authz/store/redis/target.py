"""Where Redis is, and how to get in: the URL of `store:`."""

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from authz.store.protocols import StoreUnusable
from authz.store.redis.link import BUDGET_MS

SINGLE, CLUSTER, SENTINEL = "single", "cluster", "sentinel"
_KINDS = {"redis": SINGLE, "redis+cluster": CLUSTER, "redis+sentinel": SENTINEL}
_PORTS = {SINGLE: 6379, CLUSTER: 6379, SENTINEL: 26379}

MOST_COUNTERS = 5_000_000
"""Names in one server; most are counters, of 200 to 500 bytes each."""

Address = tuple[str, int]


def shown(address: Address) -> str:
    """As people write it: IPv6 in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A store's URL, taken apart. Neither repr nor errors show a password.

    ```
    redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]         rediss:// with TLS
    redis+cluster://[USER[:PASSWORD]@]HOST[:PORT],...
    redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],.../NAME[/DB]
    ```
    and after a `?`, each optional: `ca=FILE` (PEM of who signed the servers' certificates), `cert=FILE`
    and `key=FILE` (our own certificate), `password_file=FILE` (read anew for each connection),
    `sentinel_user=`, `sentinel_password_file=FILE` (where the Sentinels want them), `budget=50ms`,
    `wait_replicas=N` (a settlement counts as durable when so many replicas have it), `most_counters=N` (from
    so many names in a server on, no new counter begins there).
    """

    kind: str
    hosts: tuple[Address, ...]  # of the Sentinels where there are some
    db: int = 0
    name: str = ""  # of the master among the Sentinels
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    budget_ms: int = BUDGET_MS
    wait_replicas: int = 0
    most_counters: int = MOST_COUNTERS
    user: str = ""
    password_file: str = ""
    sentinel_user: str = ""
    sentinel_password_file: str = ""
    _password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "Target":
        """Raises StoreUnusable, without quoting the URL."""
        scheme, _, rest = url.partition("://")
        tls = scheme.startswith("rediss")
        kind = _KINDS.get(scheme.replace("rediss", "redis", 1) if tls else scheme)
        if kind is None:
            raise StoreUnusable(f"a Redis URL begins with {', '.join(f'{each}://' for each in _KINDS)}")
        # Several hosts are not one host for urlsplit: it sees a plain name instead.
        authority, _, _ = rest.partition("?")[0].partition("/")
        login, _, hosts = authority.rpartition("@")
        parts = urlsplit("redis://hosts" + rest.removeprefix(authority))
        user, _, password = login.partition(":")
        options = _options(parts)
        name, db = _place(kind, parts)
        return cls(
            kind=kind,
            hosts=_hosts(hosts, _PORTS[kind]),
            tls=tls,
            user=unquote(user),
            _password=unquote(password),
            budget_ms=_milliseconds(options.get("budget", f"{BUDGET_MS}ms")),
            wait_replicas=_count(options.get("wait_replicas", "0")),
            most_counters=_many(options.get("most_counters", str(MOST_COUNTERS))),
            name=name,
            db=db,
            ca=options.get("ca", ""),
            cert=options.get("cert", ""),
            key=options.get("key", ""),
            password_file=options.get("password_file", ""),
            sentinel_user=options.get("sentinel_user", ""),
            sentinel_password_file=options.get("sentinel_password_file", ""),
        )

    @property
    def password(self) -> str:
        """Raises StoreUnavailable: its file cannot be read."""
        return _read(self.password_file) if self.password_file else self._password

    @property
    def sentinel_password(self) -> str:
        """As `password`."""
        return _read(self.sentinel_password_file) if self.sentinel_password_file else ""

    def context(self) -> ssl.SSLContext | None:
        """TLS as the URL wants it. Raises StoreUnavailable: a file of it cannot be used."""
        if not self.tls:
            return None
        try:
            stamps = tuple(Path(each).stat().st_mtime_ns for each in (self.ca, self.cert, self.key) if each)
            return _context(self.ca, self.cert, self.key, stamps)
        except (OSError, ssl.SSLError) as error:
            named = ", ".join(each for each in (self.ca, self.cert, self.key) if each)
            raise StoreUnusable(f"cannot use the certificates for Redis in {named}: {error}") from None


@lru_cache(maxsize=8)
def _context(ca: str, cert: str, key: str, stamps: tuple[int, ...]) -> ssl.SSLContext:
    """Takes tens of milliseconds: not for every attempt to connect, only where a file has changed."""
    context = ssl.create_default_context(cafile=ca or None)
    if cert:
        context.load_cert_chain(cert, key or None)
    return context


def _options(parts: SplitResult) -> dict[str, str]:
    known = (
        "ca", "cert", "key", "password_file", "sentinel_user", "sentinel_password_file", "budget",
        "wait_replicas", "most_counters",
    )  # fmt: skip
    found = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in found:
        if name not in known:
            raise StoreUnusable(f"a Redis URL takes ?{', '.join(known)}; not what it has there")
    return found


def _hosts(text: str, port: int) -> tuple[Address, ...]:
    found = []
    for each in text.split(","):
        try:
            parts = urlsplit(f"//{each}")
            host, number = parts.hostname, parts.port
        except ValueError:
            raise StoreUnusable(
                "a Redis URL has a port that is no number, or a broken IPv6 address"
            ) from None
        if not host:
            raise StoreUnusable("a Redis URL lacks a host: write for example redis://localhost:6379/0")
        found.append((host, port if number is None else number))
    return tuple(found)


def _place(kind: str, parts: SplitResult) -> tuple[str, int]:
    """Name and database, from the path."""
    words = [unquote(word) for word in parts.path.split("/") if word]
    name = ""
    if kind == SENTINEL:
        if not words:
            raise StoreUnusable(
                "a Sentinel URL ends with the master's name: redis+sentinel://h1,h2,h3/mymaster"
            )
        name = words.pop(0)
    if not words:
        return name, 0
    if len(words) > 1 or not words[0].isdecimal():
        raise StoreUnusable(
            "a Redis URL ends with the number of the database, as in redis://localhost:6379/0"
        )
    if kind == CLUSTER and int(words[0]):
        raise StoreUnusable("a Redis Cluster has only the database 0")
    return name, int(words[0])


def _milliseconds(text: str) -> int:
    number = text.removesuffix("ms")
    if not number.isdecimal() or not 1 <= int(number) <= 10_000:
        raise StoreUnusable("?budget= is what a decision may wait for Redis: 1ms to 10000ms")
    return int(number)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 16:
        raise StoreUnusable("?wait_replicas= is how many replicas must have a settlement: 0 to 16")
    return int(text)


def _many(text: str) -> int:
    if not text.isdecimal() or not 1_000 <= int(text) <= 1_000_000_000:
        raise StoreUnusable("?most_counters= is how many counters may be in a server: 1000 to 1000000000")
    return int(text)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnusable(f"cannot read the password of Redis in {path}: {error}") from None
