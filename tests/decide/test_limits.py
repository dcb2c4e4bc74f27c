"""Windows, partitions, overrides and grants, as a caller meets them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from authz.authenticate.key_format import MintedKey
from authz.decision import Allow, Deny
from authz.store.records import Adjustment
from tests.support.lab import FakeClock, Lab

HEAD = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {}, big: {}}
routes:
  - name: open
    match: {paths: [/*]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [it]
limits:
  it: """


def lab_with(limit: str, at: datetime | None = None) -> Lab:
    clock = FakeClock() if at is None else FakeClock(int(at.timestamp() * 1000))
    return Lab(HEAD + limit, clock=clock)


def admitted(lab: Lab, tries: int, key: MintedKey | None = None) -> int:
    """How many of so many requests get through."""
    key = key or lab.key()
    decisions = [lab.decide(lab.request("GET", "/x", key=key, body=b"")) for _ in range(tries)]
    return sum(isinstance(decision, Allow) for decision in decisions)


@pytest.mark.parametrize(
    ("limit", "at_once", "after_half_a_minute", "after_a_minute"),
    [
        ("60r/m", 60, 30, 30),
        ("{unit: requests, quota: 60, window: 1m, burst: 10}", 10, 10, 10),
        ("{unit: requests, quota: 60, window: 1m, algorithm: fixed}", 60, 0, 60),
        ("{unit: requests, quota: 60, window: 1m, algorithm: sliding}", 60, 0, 0),
    ],
)
def test_windows(limit: str, at_once: int, after_half_a_minute: int, after_a_minute: int) -> None:
    lab = lab_with(limit, datetime(2026, 9, 21, 12, 0, tzinfo=UTC))
    key = lab.key()
    assert admitted(lab, 100, key=key) == at_once
    lab.clock.advance(30)
    assert admitted(lab, 100, key=key) == after_half_a_minute
    lab.clock.advance(30)
    assert admitted(lab, 100, key=key) == after_a_minute
    if "sliding" in limit:
        lab.clock.advance(2)
        assert admitted(lab, 100, key=key) == 60


@pytest.mark.parametrize(
    ("window", "at", "still", "next_window"),
    [
        ("day", (2026, 9, 21, 23, 0), (2026, 9, 21, 23, 59, 59), (2026, 9, 22, 0, 0)),
        ("day", (2026, 3, 29, 1, 0), (2026, 3, 29, 23, 59, 59), (2026, 3, 30, 0, 0)),
        ("day", (2026, 10, 25, 1, 0), (2026, 10, 25, 23, 59, 59), (2026, 10, 26, 0, 0)),
        ("week", (2026, 9, 21, 0, 0), (2026, 9, 27, 23, 59, 59), (2026, 9, 28, 0, 0)),
        ("month", (2026, 2, 1, 0, 0), (2026, 2, 28, 23, 59, 59), (2026, 3, 1, 0, 0)),
    ],
)
def test_calendar_windows_follow_the_local_clock(
    window: str, at: tuple[int, ...], still: tuple[int, ...], next_window: tuple[int, ...]
) -> None:
    zone = ZoneInfo("Europe/Helsinki")
    begin = datetime(*at, tzinfo=zone)  # type: ignore[arg-type,misc]
    lab = lab_with(
        f"{{unit: requests, quota: 5, window: {window}, timezone: Europe/Helsinki, partition_by: [key]}}",
        begin,
    )
    key = lab.key()
    assert admitted(lab, 10, key=key) == 5
    lab.clock.now = int(datetime(*still, tzinfo=zone).timestamp() * 1000)  # type: ignore[arg-type,misc]
    assert admitted(lab, 10, key=key) == 0
    lab.clock.now = int(datetime(*next_window, tzinfo=zone).timestamp() * 1000)  # type: ignore[arg-type,misc]
    assert admitted(lab, 10, key=key) == 5


def test_a_week_begins_when_the_config_says() -> None:
    sunday = datetime(2026, 9, 20, 0, 0, tzinfo=UTC)
    limit = "{unit: requests, quota: 5, window: week, week_start: sunday, partition_by: [key]}"
    lab = lab_with(limit, datetime(2026, 9, 19, 23, 59, tzinfo=UTC))
    key = lab.key()
    assert admitted(lab, 10, key=key) == 5
    lab.clock.now = int(sunday.timestamp() * 1000)
    assert admitted(lab, 10, key=key) == 5


@pytest.mark.parametrize(
    ("partition", "one", "other"),
    [
        ("method", {"method": "GET"}, {"method": "POST"}),
        ("path", {"target": "/a"}, {"target": "/b"}),
        ("ip", {"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}),
        ("ip_prefix", {"ip": "10.0.0.1"}, {"ip": "10.0.1.1"}),
        ("ip_prefix", {"ip": "2001:db8::1"}, {"ip": "2001:db8:0:1::1"}),
        ("header:x-tier", {"headers": {"x-tier": "a"}}, {"headers": {"x-tier": "b"}}),
        ("query:q", {"target": "/x?q=1"}, {"target": "/x?q=2"}),
        ("cookie:c", {"headers": {"cookie": "c=1"}}, {"headers": {"cookie": "c=2"}}),
    ],
)
def test_partitions_count_apart(partition: str, one: dict[str, object], other: dict[str, object]) -> None:
    lab = lab_with(f'{{unit: requests, quota: 2, window: 1m, partition_by: ["{partition}"]}}')
    key = lab.key()

    def tries(method: str = "GET", target: str = "/x", **fields: object) -> int:
        decisions = [lab.decide(lab.request(method, target, key=key, body=b"", **fields)) for _ in range(4)]  # type: ignore[arg-type]
        return sum(isinstance(decision, Allow) for decision in decisions)

    assert tries(**one) == 2
    assert tries(**other) == 2
    assert tries(**one) == 0


def test_one_counter_for_all_without_a_partition() -> None:
    lab = lab_with("{unit: requests, quota: 3, window: 1m}")
    assert admitted(lab, 2) + admitted(lab, 2) + admitted(lab, 2) == 3


def test_when_a_limit_applies() -> None:
    lab = lab_with(
        "{unit: requests, quota: 1, window: 1m, partition_by: [user], when: {methods: [POST], users: [bob]}}"
    )
    alice, bob = lab.key("alice"), lab.key("bob")
    for key, method, expected in ((alice, "POST", 4), (bob, "GET", 4), (bob, "POST", 1)):
        decisions = [lab.decide(lab.request(method, "/x", key=key, body=b"")) for _ in range(4)]
        assert sum(isinstance(decision, Allow) for decision in decisions) == expected


def test_overrides_and_grants() -> None:
    lab = lab_with(
        "{unit: requests, quota: 2, window: day, partition_by: [team], overrides: [{team: vision, quota: 4}]}"
    )
    nlp, vision = lab.key("a", team="nlp"), lab.key("b", team="vision")
    assert admitted(lab, 10, key=nlp) == 2
    assert admitted(lab, 10, key=vision) == 4
    until = lab.clock() + 3_600_000
    grant = Adjustment(
        id="g1", policy="it", partition=(("team", "nlp"),), grant=3, until=until, created_at=lab.clock()
    )
    lab.store.registry.add_adjustment(grant)
    assert admitted(lab, 10, key=nlp) == 3
    lab.clock.advance(86_400)
    assert admitted(lab, 10, key=nlp) == 2  # the grant is over
    lab.store.registry.add_adjustment(
        Adjustment(id="o1", policy="it", partition=(("team", "vision"),), override=1, created_at=lab.clock())
    )
    assert admitted(lab, 10, key=vision) == 1


def test_a_shadow_counts_and_never_denies() -> None:
    lab = lab_with("{unit: requests, quota: 2, window: 1m, partition_by: [key], mode: shadow}")
    key = lab.key()
    assert admitted(lab, 5, key=key) == 5
    decision = lab.decide(lab.request("GET", "/x", key=key, body=b""))
    assert isinstance(decision, Allow)
    (state,) = decision.limits
    assert (state.limit.shadow, state.remaining) == (True, 0)


def test_a_figure_tried_beside_the_live_one() -> None:
    lab = lab_with("{unit: requests, quota: 4, window: 1m, partition_by: [key], shadow: {quota: 2}}")
    key = lab.key()
    assert admitted(lab, 9, key=key) == 4
    decision = lab.decide(lab.request("GET", "/x", key=key, body=b""))
    assert isinstance(decision, Deny)
    assert [(state.limit.policy, state.limit.shadow, state.remaining) for state in decision.limits] == [
        ("it", False, 0),
        ("it~shadow", True, 0),
    ]


def test_exactly_sixty_of_two_hundred_under_a_clock_that_stands() -> None:
    lab = lab_with("60r/m")
    key = lab.key("alice", "requests=60/m")
    assert admitted(lab, 200, key=key) == 60
    assert admitted(lab, 200, key=key) == 0
    lab.clock.advance(1)
    assert admitted(lab, 200, key=key) == 1


@pytest.mark.parametrize("hours", [1, -1])
def test_attack_107_a_stepping_clock_gives_no_free_window(hours: int) -> None:
    lab = lab_with(
        "{unit: requests, quota: 2, window: day, timezone: UTC, partition_by: [key]}",
        datetime(2026, 9, 21, 12, tzinfo=UTC),
    )
    key = lab.key()
    assert admitted(lab, 5, key=key) == 2
    lab.clock.advance(3600 * hours)
    decision = lab.decide(lab.request("GET", "/x", key=key, body=b""))
    assert isinstance(decision, Deny)
    assert int(dict(decision.headers)["retry-after"]) >= 0


@pytest.mark.parametrize(
    ("target", "body", "needed"),
    [
        ("/v1/chat/completions", b'{"model": "llama3", "max_tokens": 100}', 18 + 64 + 100),
        ("/v1/chat/completions", b'{"model": "llama3", "max_tokens": 100, "n": 3}', 24 + 64 + 300),
        (
            "/v1/completions",
            b'{"model": "llama3", "max_tokens": 9, "prompt": ["a", "b"]}',
            38 + 128 + 18,
        ),
        ("/v1/embeddings", b'{"model": "llama3", "input": "a"}', 30 + 64),
        ("/v1/responses", b'{"model": "llama3", "max_output_tokens": 5, "input": "a"}', 30 + 64 + 5),
    ],
)
def test_tokens_are_held_at_their_upper_bound(target: str, body: bytes, needed: int) -> None:
    """Of the body all counts but what limits the answer, and blanks around members."""
    lab = tokens_lab()
    decision = lab.decide(lab.request("POST", target, key=lab.key(), body=body))
    assert isinstance(decision, Allow)
    assert [state.limit.needed for state in decision.limits] == [needed]


def test_tokens_without_any_bound_are_not_guessed() -> None:
    lab = tokens_lab()
    decision = lab.decide(lab.request(key=lab.key(), body=b'{"model": "llama3"}'))
    assert isinstance(decision, Deny)
    assert (decision.status, "max_tokens" in decision.message) == (400, True)


def test_the_list_of_models_costs_no_tokens() -> None:
    lab = Lab(HEAD + "60r/m")
    decision = lab.decide(lab.request("GET", "/v1/models", key=lab.key("alice", "tokens=1000/day"), body=b""))
    assert isinstance(decision, Allow)
    assert [(state.limit.unit, state.limit.needed) for state in decision.limits] == [
        ("requests", 1),
        ("tokens", 0),
    ]


def test_the_list_of_models_is_told_while_all_slots_are_taken() -> None:
    lab = Lab(HEAD + "60r/m")
    key = lab.key("alice", "concurrency=1")
    assert isinstance(lab.decide(lab.request(key=key)), Allow)
    assert isinstance(lab.decide(lab.request(key=key)), Deny)
    for _ in range(3):
        assert isinstance(lab.decide(lab.request("GET", "/v1/models", key=key, body=b"")), Allow)


def test_a_hold_larger_than_the_quota_never_fits() -> None:
    lab = tokens_lab()
    decision = lab.decide(lab.request(key=lab.key(), body=b'{"model": "llama3", "max_tokens": 5000}'))
    assert isinstance(decision, Deny)
    assert decision.reason == "quota_exhausted"
    assert "can never admit" in decision.message


@pytest.mark.parametrize(
    "content",
    [
        b'[{"type": "image_url", "image_url": {"url": "https://x"}}]',
        b'[{"type": "\\u0069nput_file", "file_id": "f"}]',
        b'[{"type": "document", "source": {}}]',
    ],
)
def test_what_is_read_from_elsewhere_is_held_at_the_context(content: bytes) -> None:
    body = b'{"model": "llama3", "max_tokens": 10, "messages": [{"role": "user", "content": %s}]}' % content
    lab = tokens_lab()
    decision = lab.decide(lab.request(key=lab.key(), body=body))
    assert isinstance(decision, Deny)
    assert (decision.status, "text only" in decision.message) == (400, True)
    lab = tokens_lab("{context: 500}")
    decision = lab.decide(lab.request(key=lab.key(), body=body))
    assert isinstance(decision, Allow)
    assert [state.limit.needed for state in decision.limits] == [510]


def test_a_text_about_images_is_text() -> None:
    lab = tokens_lab()
    body = b'{"model": "llama3", "max_tokens": 10, "messages": [{"role": "user", "content": "an \\"image_url\\""}]}'
    decision = lab.decide(lab.request(key=lab.key(), body=body))
    assert isinstance(decision, Allow)
    assert [state.limit.needed for state in decision.limits] == [
        len(body) - len(', "max_tokens": 10') - len("   ") + 64 + 10
    ]


def tokens_lab(model: str = "{}") -> Lab:
    limit = "{unit: tokens, quota: 1000, window: day, partition_by: [key]}"
    config = (HEAD + limit).replace("match: {paths: [/*]}", "match: {api: [openai]}")
    return Lab(config.replace("llama3: {}", f"llama3: {model}"))
