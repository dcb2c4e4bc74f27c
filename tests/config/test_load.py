"""From the file to typed values, warnings and a digest."""

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from authz.config import ConfigErrors, ConfigNotFound, Loaded, find_config, load, loads
from authz.config.authenticators import JwtAuthenticator
from authz.quota import Algorithm, Quota, Unit, Window
from authz.request import GatewayKind
from tests.config.conftest import ENVIRON


def limit(text: str, head: str = "") -> Quota:
    return loads(f"{head}\nlimits: {{a: {text}}}", environ={}).config.limits["a"].value


def gcra(ms: int) -> Window:
    return Window(algorithm=Algorithm.GCRA, length_ms=ms)


def calendar(period: str, timezone: str = "UTC", week_start: int = 0) -> Window:
    return Window(algorithm=Algorithm.CALENDAR, period=period, timezone=timezone, week_start=week_start)


def test_the_whole_example(example: Path) -> None:
    loaded = load(example, environ=ENVIRON)
    config = loaded.config
    assert loaded.store.path == Path("/var/lib/authz/authz.db")
    edge = config.gateways["edge"]
    assert (edge.kind, edge.request_id, edge.max_body) == (GatewayKind.ENVOY, "gateway", 4 << 20)
    assert edge.from_ == (ip_network("127.0.0.1/32"),)
    sso = config.authenticators["sso"]
    assert isinstance(sso, JwtAuthenticator)
    assert sso.subject.user == ("preferred_username", "sub")
    assert sso.subject.email == ("email",)
    assert [(slot.kind, slot.name) for slot in sso.token_from] == [
        ("query", "access_token"),
        ("header", "x-api-token"),
        ("cookie", "user_session"),
        ("header", "authorization"),
    ]
    price = config.models["llama3-8b"].price
    assert (price.input, price.cached_input, price.output) == (100_000_000, 20_000_000, 400_000_000)
    assert config.limits["team-month"].value == Quota(
        unit=Unit.TOKENS, amount=50_000_000, window=calendar("month")
    )
    override = config.limits["team-month"].overrides[0]
    assert (override.partition, override.quota) == ((("team", "vision"),), 200_000_000)
    assert config.limits["user-day"].window.timezone == "Europe/Helsinki"
    shadow = config.limits["user-day"].shadow
    assert shadow is not None
    assert shadow.quota == 100_000
    assert config.limits["key-concurrency"].window.algorithm is Algorithm.CONCURRENCY
    assert config.routes[0].authorize[0].models == "allowed"
    assert config.routes[0].authenticate.names == ("keys", "sso")
    assert [str(w).partition(":")[2] for w in loaded.warnings] == [
        "21:3: no route uses the authenticator `office`",
        "22:3: no route uses the authenticator `staff`",
        "23:3: no route uses the authenticator `mtls`",
    ]


def requests(amount: int, ms: int, burst: int | None = None) -> Quota:
    return Quota(unit=Unit.REQUESTS, amount=amount, window=gcra(ms), burst=burst or amount)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("60r/m", requests(60, 60_000)),
        ("1r/s", requests(1, 1000)),
        ("requests=60/m", requests(60, 60_000)),
        ("5r/day", Quota(unit=Unit.REQUESTS, amount=5, window=calendar("day"))),
        ("cost=2.50/month", Quota(unit=Unit.COST, amount=2_500_000_000, window=calendar("month"))),
        (
            "concurrency=4",
            Quota(unit=Unit.CONCURRENCY, amount=4, window=Window(algorithm=Algorithm.CONCURRENCY)),
        ),
        ("{unit: requests, quota: 60, window: 1m, burst: 10}", requests(60, 60_000, 10)),
        ("{burst: 10, window: 1m, quota: 1k, unit: requests}", requests(1000, 60_000, 10)),
        (
            "{unit: tokens, quota: 2M, window: 1h}",
            Quota(
                unit=Unit.TOKENS,
                amount=2_000_000,
                window=Window(algorithm=Algorithm.SLIDING, length_ms=3_600_000),
            ),
        ),
        (
            "{unit: requests, quota: 5, window: 1m, algorithm: fixed}",
            Quota(unit=Unit.REQUESTS, amount=5, window=Window(algorithm=Algorithm.FIXED, length_ms=60_000)),
        ),
        (
            "{unit: cost, quota: 0.5, window: day}",
            Quota(unit=Unit.COST, amount=500_000_000, window=calendar("day")),
        ),
    ],
)
def test_limits(text: str, quota: Quota) -> None:
    assert limit(text) == quota


def test_calendar_defaults_come_from_the_config() -> None:
    head = "timezone: Europe/Helsinki\nweek_start: sunday"
    assert limit("60r/week", head).window == calendar("week", "Europe/Helsinki", 6)
    own = "{unit: requests, quota: 1, window: week, timezone: UTC, week_start: tuesday}"
    assert limit(own, head).window == calendar("week", "UTC", 1)


def test_shorthand_counts_by_key_and_none_counts_all() -> None:
    config = loads("limits: {a: 60r/m, b: {unit: requests, quota: 1, window: 1m, partition_by: none}}").config
    assert config.limits["a"].partition_by == ("key",)
    assert config.limits["b"].partition_by == ()


@pytest.mark.parametrize(
    "header",
    [
        *("X-Envoy-Upstream-Rq-Timeout-Ms", "x-envoy-original-path", "X-Original-URL", "x-rewrite-url"),
        *("X-HTTP-Method-Override", "X-Forwarded-Host", "Cookie", "content-type", "Host", "x-authz-backend"),
    ],
)
def test_attack_114_no_claim_leads_a_request_elsewhere(header: str) -> None:
    with pytest.raises(ConfigErrors) as raised:
        loads(
            f"""
authenticators:
  sso:
    type: jwt
    jwks_url: https://idp.test/keys
    issuers: [https://idp.test]
    claim_headers: {{note: {header}}}
""",
            environ=ENVIRON,
        )
    [message] = [str(problem) for problem in raised.value.problems if "header" in str(problem)]
    assert "authz.yaml:7:" in message
    assert header.lower() in message or "x-authz-" in message


def test_headers_are_compared_in_lower_case() -> None:
    config = loads(
        """
        authenticators: {keys: {type: api_key, headers: [X-APIKEY]}}
        limits:
          a:
            unit: requests
            quota: 1
            window: 1m
            partition_by: ["header:X-Tenant", team]
            overrides: [{header:X-TENANT: acme, team: nlp, quota: 0}]
        """.replace("\n        ", "\n")
    ).config
    assert config.authenticators["keys"].headers == ("x-apikey",)  # type: ignore[union-attr]
    assert config.limits["a"].partition_by == ("header:x-tenant", "team")
    assert config.limits["a"].overrides[0].partition == (("header:x-tenant", "acme"), ("team", "nlp"))


def test_sign_key_is_decoded() -> None:
    text = "authenticators: {t: {type: jwt, algorithms: [HS256], sign_key: {env: K}}}"
    for spelled in (
        "TkZMNSpOQSZrRXlAQ0ZkQmVQdWxpdFh6VW1OTGNvbSE=",
        "TkZMNSpOQSZrRXlAQ0ZkQmVQdWxpdFh6VW1OTGNvbSE",
    ):
        entry = loads(text, environ={"K": spelled}).config.authenticators["t"]
        assert isinstance(entry, JwtAuthenticator)
        assert entry.signing_key() == b"NFL5*NA&kEy@CFdBePulitXzUmNLcom!"


@pytest.mark.parametrize(
    ("text", "loopback", "spelled"),
    [
        ("127.0.0.1:9100", True, "127.0.0.1:9100"),
        ("127.8.8.8:1", True, "127.8.8.8:1"),
        ("localhost:0", True, "localhost:0"),
        ("'[::1]:9100'", True, "[::1]:9100"),
        ("0.0.0.0:9100", False, "0.0.0.0:9100"),
        ("'[::]:9100'", False, "[::]:9100"),
        ("'[::ffff:127.0.0.1]:9100'", False, "[::ffff:127.0.0.1]:9100"),
        ("authz.internal:9100", False, "authz.internal:9100"),
    ],
)
def test_addresses(text: str, loopback: bool, spelled: str) -> None:
    address = loads(f"admin: {{listen: {text}}}").config.admin.listen
    assert address.loopback is loopback
    assert str(address) == spelled


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "authz.db"),
        ("store: sqlite:data/a.db", "data/a.db"),
        ("store: sqlite:////abs/a.db", "//abs/a.db"),
        ("store: sqlite:///abs/a%20b.db", "/abs/a b.db"),
    ],
)
def test_sqlite_paths_start_at_the_config(text: str, path: str, tmp_path: Path) -> None:
    assert loads(text or "routes: []", directory=tmp_path).store.path == tmp_path / path


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://h:6379/0",
        "rediss://h",
        "redis+cluster://h1:1,h2:2",
        "redis+sentinel://a,b/mymaster",
    ],
)
def test_stores(url: str) -> None:
    store = loads(f"store: {url}").store
    assert store.reveal() == url
    assert store.scheme == url.partition(":")[0]
    assert store.path is None


def test_a_gateway_with_a_token_may_ask_from_elsewhere() -> None:
    text = "decisions: {http: 0.0.0.0:9000}\ngateways: {a: {kind: nginx, token: {env: T}}}"
    assert loads(text, environ={"T": "x" * 32}).warnings[0].message.startswith("there are no routes")


def test_the_other_grpc_address() -> None:
    """That of a default stands in nobody's way; `none` is no address."""
    assert str(loads("currency: EUR").config.decisions.grpc_other) == "127.0.0.1:9003"
    assert loads("admin: {listen: 127.0.0.1:9003}").config.decisions.grpc_other is not None
    none = loads("decisions: {grpc_other: none}").config.decisions
    assert none.grpc_other is None
    assert none.model_dump()["grpc_other"] == "none"


WARNED = """
decisions: {http: 127.0.0.1:0, grpc: 127.0.0.1:0}
gateways:
  edge: {kind: envoy, token: {env: SHORT}, tls: {cert: c.pem, key: k.pem}}
authenticators:
  sso: {type: jwt, algorithms: [RS256], jwks_url: http://idp.example.com/keys}
models: {a: {}, b: {}}
backends:
  one: {url: http://127.0.0.1:1, models: [a]}
  two: {url: http://127.0.0.1:2, models: [a]}
routes:
  - name: first
    match: {paths: [/a]}
    authenticate: {any_of: [sso]}
    authorize: [{models: any}]
  - name: second
    match: {paths: [/a]}
    authenticate: {any_of: [sso]}
    authorize: [{models: any}]
limits:
  idle: {unit: requests, quota: 5, window: 1m, timezone: UTC}
"""


def test_warnings_are_located() -> None:
    warnings = loads(WARNED, file="f", environ={"SHORT": "short"}).warnings
    assert [str(warning) for warning in warnings] == [
        "f:4:30: a token of less than 16 characters; make one with `openssl rand -hex 32`",
        "f:4:44: `tls` has no effect without `listen: {https: ...}`",
        "f:6:3: without `audiences` a token that names one is refused, and one that names none is accepted, whatever it is for",
        "f:6:3: without `issuers` any token that the provider's keys sign is accepted, whoever issued it",
        "f:6:51: over plain http anybody on the way can replace the signing keys",
        "f:7:17: no backend serves `b`",
        "f:10:42: `a` is served by `one`, which comes first",
        "f:17:5: never reached: the route `first` matches the very same requests first",
        "f:21:3: no route uses the limit `idle`",
        "f:21:48: `timezone` has no effect: this window is not day, week or month",
    ]


@pytest.mark.parametrize(
    ("admin", "warned"),
    [
        ("listen: 0.0.0.0:9002", True),
        ("listen: 127.0.0.1:9002", False),
        ("listen: 0.0.0.0:9002, token: {env: T}", False),
        ("listen: 0.0.0.0:9002, tokens: {ops: {env: T, role: reader}}", False),
    ],
)
def test_an_admin_address_that_answers_nobody_is_told(admin: str, warned: bool) -> None:
    warnings = loads(f"admin: {{{admin}}}", file="f", environ={"T": "x" * 32}).warnings
    message = "f:1:17: `admin` has no `token`: every admin call but /livez and /readyz is refused"
    assert (message in map(str, warnings)) is warned


def test_models_of_the_store_alone_are_not_checked() -> None:
    text = "backends: {a: {url: http://127.0.0.1:1, models: [later]}}"
    assert loads(text).config.backends["a"].models == ("later",)


def test_digest_follows_file_and_secret_files(example: Path) -> None:
    first = load(example, environ=ENVIRON)
    assert len(first.digest) == 12
    assert load(example, environ=ENVIRON).digest == first.digest
    assert first.files == {example, *(example.parent / name for name in ("edge", "vllm-a", "users.htpasswd"))}
    (example.parent / "edge").write_text("another-token-of-the-gateway")
    second = load(example, environ=ENVIRON)
    assert second.digest != first.digest
    example.write_text(example.read_text() + "# a comment\n")
    assert load(example, environ=ENVIRON).digest not in {first.digest, second.digest}


def test_errors_name_the_files_that_could_mend_them(example: Path) -> None:
    (example.parent / "edge").unlink()
    with pytest.raises(ConfigErrors) as raised:
        load(example, environ=ENVIRON)
    assert example.parent / "edge" in raised.value.files
    assert example in raised.value.files


def test_where_the_config_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigNotFound, match="--config or AUTHZ_CONFIG"):
        find_config(None, {})
    (tmp_path / "authz.yaml").write_text("routes: []")
    assert find_config(None, {}) == Path("authz.yaml")
    assert find_config(None, {"AUTHZ_CONFIG": "other.yaml"}) == Path("other.yaml")
    assert find_config("mine.yaml", {"AUTHZ_CONFIG": "other.yaml"}) == Path("mine.yaml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigErrors, match="the file cannot be read"):
            load(path)


def test_a_config_is_frozen(write: Callable[[str], Path]) -> None:
    loaded: Loaded = load(write("timezone: UTC"))
    with pytest.raises(ValueError, match="frozen"):
        loaded.config.timezone = "Europe/Helsinki"


def test_a_sign_key_beats_published_keys() -> None:
    """As caddy-jwt has it; the source that is not read is named."""
    text = """
authenticators:
  sso:
    type: jwt
    algorithms: [HS256]
    jwks_url: https://api.example.com/jwk/keys
    sign_key: TkZMNSowQmMjOVU2RUB0bm1DJkU3U1VONkd3SGZMbVk=
"""
    loaded = loads(text)
    messages = [(problem.line, problem.message) for problem in loaded.warnings]
    assert (6, "`jwks_url` is not used: `sign_key` says where the signing key is") in messages


def test_password_files_are_looked_through() -> None:
    sha = "{SHA}qZk+NkcGgWq6PiVxeFDCbJzQ2J0="
    text = f"""
authenticators:
  staff:
    type: basic
    htpasswd: "carol:{sha}\\ncarol:{sha}\\ndave:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\\nerin:{sha}"
routes:
  - {{name: all, match: {{paths: [/*]}}, authenticate: {{any_of: [staff]}}, authorize: [{{models: any}}]}}
"""
    told = [problem.message for problem in loads(text, directory=Path("/nowhere"), environ={}).warnings]
    assert [message for message in told if "secret stands" not in message] == [
        "line 2 lets nobody in: it names carol again; the first line counts",
        "line 3 lets nobody in: it has a hash that is none of bcrypt (htpasswd -nB), argon2 and {SHA}",
        "the {SHA} hash of carol and 1 more is quick to guess by; make one with `htpasswd -nB`",
    ]


def test_a_short_shared_secret_is_warned_of() -> None:
    text = """
authenticators:
  machines: {type: shared_secret, secrets: {worker: {env: SHORT}}, query: [token]}
routes:
  - {name: all, match: {paths: [/*]}, authenticate: {any_of: [machines]}, authorize: [{models: any}]}
"""
    (warning,) = loads(text, directory=Path("/nowhere"), environ={"SHORT": "hunter2"}).warnings
    assert "less than 16 characters" in warning.message
    assert "hunter2" not in str(warning)


def test_wishes_that_a_gateway_cannot_grant_are_told() -> None:
    text = """
gateways: {a: {kind: envoy, token: {env: T}}, b: {kind: caddy, token: {env: U}}}
authenticators: {keys: {type: api_key}}
models: {m: {}}
backends: {one: {url: http://127.0.0.1:1, models: [m]}, two: {url: http://127.0.0.1:2, models: [m]}}
routes:
  - name: a
    match: {paths: [/a]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    preferences: {header: x-wishes, timeout: 1m, max_retries: 2, max_concurrent_requests: 3, targets: {"https://b.test": two}}
"""
    found = [
        str(warning) for warning in loads(text, file="f", environ={"T": "t" * 20, "U": "u" * 20}).warnings
    ]
    assert found == [
        "f:11:37: behind the gateway `b` this has no effect: it cannot do that",
        "f:11:50: behind the gateway `b` this has no effect: it cannot do that",
    ]
