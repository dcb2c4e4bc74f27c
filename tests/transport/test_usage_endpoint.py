"""`POST /v1/usage`: the contract of docs/settlement.md, and what is thrown at it."""

import json
from typing import Any

import pytest

from authz.report import Report
from authz.request import GatewayKind
from authz.store.protocols import Outcome, StoreUnavailable
from authz.transport.usage import MAX_BODY, MOST_ITEMS
from authz.usage import Usage
from tests.transport.support import TOKENS, Answer, FakeService, ask, http_app

PROOF = [("x-authz-gateway-token", TOKENS[GatewayKind.TRAEFIK])]


class Desk:
    """The endpoint over a fake service; what was rejected is kept."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.rejected: list[tuple[str, str]] = []
        self.app = http_app(
            self.service, reject=lambda gateway, reason: self.rejected.append((gateway, reason))
        )

    async def post(self, body: bytes, headers: list[tuple[str, str]] | None = None, **how: Any) -> Answer:
        return await ask(self.app, "/v1/usage", PROOF if headers is None else headers, body, **how)

    async def results(self, told: object) -> list[dict[str, Any]]:
        answer = await self.post(told if isinstance(told, bytes) else json.dumps(told).encode())
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = json.loads(answer.body)["results"]
        return found


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_one_report_with_everything(desk: Desk) -> None:
    told = {
        "reservation": "rsv_1",
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
        "status": 200,
        "reached": True,
        "aborted": False,
        "streamed": True,
        "response_bytes": 1234,
        "duration_ms": 532,
        "something": {"else": 1},
    }
    assert await desk.results(told) == [{"reservation": "rsv_1", "outcome": "settled"}]
    report = Report(
        reservation="rsv_1",
        usage=Usage(12, 5),
        status=200,
        streamed=True,
        response_bytes=1234,
        duration_ms=532,
    )
    assert desk.service.settled == [(report, "my-traefik")]
    assert desk.service.made_durable == 1, "answered once it is on the disk"


async def test_only_the_reservation_is_required(desk: Desk) -> None:
    assert await desk.results({"reservation": "rsv_1"}) == [{"reservation": "rsv_1", "outcome": "settled"}]
    assert desk.service.reports == [Report(reservation="rsv_1")]


async def test_a_null_is_the_same_as_nothing(desk: Desk) -> None:
    names = ("usage", "status", "reached", "aborted", "streamed", "response_bytes", "duration_ms")
    await desk.results({"reservation": "rsv_1", **dict.fromkeys(names)})
    assert desk.service.reports == [Report(reservation="rsv_1")]
    assert desk.rejected == []


async def test_a_response_that_runs_is_extended(desk: Desk) -> None:
    told = {"reservation": "rsv_1", "running": True}
    assert await desk.results(told) == [{"reservation": "rsv_1", "outcome": "extended"}]
    assert desk.service.extended == [("rsv_1", "my-traefik")]
    desk.service.outcome = Outcome.UNKNOWN
    assert await desk.results(told) == [{"reservation": "rsv_1", "outcome": "unknown"}]
    assert desk.service.settled == []


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_every_outcome_is_told(desk: Desk, outcome: Outcome) -> None:
    desk.service.outcome = outcome
    assert await desk.results({"reservation": "r"}) == [{"reservation": "r", "outcome": outcome.value}]


async def test_many_in_order_and_a_bad_one_spoils_nothing(desk: Desk) -> None:
    told = [{"reservation": "a"}, {"reservation": "b", "status": "200"}, 7, {}, {"reservation": "c"}]
    results = await desk.results(told)
    assert [(each["reservation"], each["outcome"]) for each in results] == [
        ("a", "settled"),
        ("b", "invalid"),
        (None, "invalid"),
        (None, "invalid"),
        ("c", "settled"),
    ]
    assert results[1]["reason"] == "Expected `int | null`, got `str` - at `$.status`"
    assert [report.reservation for report in desk.service.reports] == ["a", "c"]
    assert desk.rejected == [("my-traefik", "malformed")] * 3


async def test_an_empty_list_is_nothing_to_do(desk: Desk) -> None:
    assert await desk.results([]) == []


@pytest.mark.parametrize(
    "field",
    [
        {"reservation": ""},
        {"reservation": 1},
        {"reservation": "r" * 257},
        {"reservation": None},
        {"status": -1},
        {"status": 1000},
        {"status": 200.5},
        {"status": True},
        {"reached": 1},
        {"aborted": "no"},
        {"streamed": 0},
        {"running": None},
        {"response_bytes": -1},
        {"response_bytes": 2**53},
        {"response_bytes": "9"},
        {"duration_ms": -5},
        {"duration_ms": [1]},
    ],
    ids=str,
)
async def test_a_wrong_type_is_invalid(desk: Desk, field: dict[str, Any]) -> None:
    [result] = await desk.results({"reservation": "rsv_1", **field})
    assert result["outcome"] == "invalid"
    assert result["reason"]
    assert desk.service.settled == []


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        pytest.param(b'{"prompt_tokens": -5, "completion_tokens": 1}', "negative", id="100-negative"),
        pytest.param(b'{"prompt_tokens": 5, "completion_tokens": -1}', "negative", id="100-negative-output"),
        pytest.param(b'{"prompt_tokens": 9007199254740993}', "too_large", id="100-above-2-53"),
        pytest.param(b'{"prompt_tokens": 1e400}', "too_large", id="100-infinite"),
        pytest.param(b'{"prompt_tokens": ' + b"9" * 5000 + b"}", "too_large", id="100-5000-digits"),
        pytest.param(b'{"prompt_tokens": 1.5}', "not_a_number", id="fraction"),
        pytest.param(b'{"prompt_tokens": "5"}', "not_a_number", id="text"),
        pytest.param(b'{"prompt_tokens": true}', "not_a_number", id="flag"),
        pytest.param(b'{"prompt_tokens": {"a": 1}}', "not_a_number", id="nested"),
        pytest.param(b'{"prompt_tokens": [5]}', "not_a_number", id="list"),
        pytest.param(b'{"completion_tokens": 5}', "incomplete", id="output-alone"),
        pytest.param(b'{"prompt_tokens": 0, "completion_tokens": 0}', "zero", id="all-zero"),
        pytest.param(b"{}", "no_counts", id="empty"),
        pytest.param(b"[]", "not_an_object", id="not-an-object"),
        pytest.param(b'"12"', "not_an_object", id="a-text"),
        pytest.param(b'{"content": "\\"usage\\": {\\"prompt_tokens\\": 1}"}', "no_counts", id="103-fake"),
    ],
)
async def test_a_usage_that_cannot_be_is_as_if_missing(desk: Desk, usage: bytes, reason: str) -> None:
    body = b'[{"reservation": "rsv_1", "status": 200, "usage": %s}, {"reservation": "rsv_2"}]' % usage
    assert [each["outcome"] for each in await desk.results(body)] == ["settled", "settled"]
    assert desk.service.reports == [
        Report(reservation="rsv_1", status=200),
        Report(reservation="rsv_2"),
    ]
    assert desk.rejected == [("my-traefik", reason)]


@pytest.mark.parametrize(
    ("usage", "read", "reason"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 99}}, Usage(5, 2, 5), "cached_above_input"),
        ({"completion_tokens_details": {"reasoning_tokens": 9}}, Usage(5, 2, 0, 2), "reasoning_above_output"),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, Usage(5, 2), "bad_detail"),
        ({"prompt_tokens_details": "none"}, Usage(5, 2), "bad_detail"),
    ],
    ids=["cached", "reasoning", "negative", "text"],
)
async def test_a_bad_detail_is_clamped(desk: Desk, usage: dict[str, Any], read: Usage, reason: str) -> None:
    await desk.results({"reservation": "r", "usage": {"prompt_tokens": 5, "completion_tokens": 2, **usage}})
    assert desk.service.reports == [Report(reservation="r", usage=read)]
    assert desk.rejected == [("my-traefik", reason)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="number"),
        pytest.param(b'"rsv_1"', id="text"),
        pytest.param(b"{", id="cut"),
        pytest.param(b'[{"reservation": "a"}', id="cut-list"),
        pytest.param(b'{"reservation": "a"} {}', id="two-documents"),
        pytest.param(b'{"reservation": "\xff"}', id="no-utf-8"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="utf-16"),
        pytest.param(b'{"reservation": "a", "status": NaN}', id="nan"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"usage":' * 50_000 + b"1" + b"}" * 50_000, id="deep-objects"),
        pytest.param(b"[" + b"7," * 200_001 + b"7]", id="92-many-members"),
        pytest.param(b"[" + b"{}," * MOST_ITEMS + b"{}]", id="too-many"),
    ],
)
async def test_what_cannot_be_read_settles_nothing(desk: Desk, body: bytes) -> None:
    answer = await desk.post(body)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["message"]
    assert desk.service.settled == []
    assert desk.rejected == [("my-traefik", "malformed")]


async def test_a_thousand_at_once(desk: Desk) -> None:
    results = await desk.results([{"reservation": f"rsv_{n}"} for n in range(MOST_ITEMS)])
    assert [each["reservation"] for each in results] == [f"rsv_{n}" for n in range(MOST_ITEMS)]
    assert desk.service.made_durable == 1


async def test_a_body_beyond_the_bound_is_refused(desk: Desk) -> None:
    assert (await desk.post(b" " * (MAX_BODY + 1))).status == 413
    assert (await desk.post(b"", chunks=[b" " * MAX_BODY, b" "])).status == 413


async def test_a_body_in_chunks_is_read(desk: Desk) -> None:
    assert (await desk.post(b"", chunks=[b'{"reservation":', b' "rsv_1"}'])).status == 200
    assert [report.reservation for report in desk.service.reports] == ["rsv_1"]


async def test_a_packed_body_is_refused(desk: Desk) -> None:
    assert (await desk.post(b"{}", [*PROOF, ("content-encoding", "gzip")])).status == 415


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="105-unproven"),
        pytest.param([("x-authz-gateway-token", "wrong")], id="105-wrong"),
        pytest.param(PROOF * 2, id="twice"),
        pytest.param([("x-authz-gateway-token", "")], id="empty"),
        pytest.param([("authorization", f"Bearer {TOKENS[GatewayKind.TRAEFIK]}")], id="elsewhere"),
    ],
)
async def test_only_a_proven_gateway_tells(desk: Desk, headers: list[tuple[str, str]]) -> None:
    answer = await desk.post(b'{"reservation": "rsv_1"}', headers)
    assert answer.status == 403
    assert json.loads(answer.body)["error"]["code"] == "gateway_unproven"
    assert desk.service.settled == []
    assert desk.rejected == [("unidentified", "gateway_unproven")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_post(desk: Desk, method: str) -> None:
    answer = await desk.post(b"", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "fault",
    [StoreUnavailable("gone"), RuntimeError("bug"), RecursionError()],
    ids=["store", "bug", "recursion"],
)
async def test_trouble_is_503_and_worth_another_try(desk: Desk, fault: Exception) -> None:
    desk.service.outcome = fault
    assert (await desk.post(b'{"reservation": "rsv_1"}')).status == 503


async def test_what_is_not_durable_is_not_acknowledged(desk: Desk) -> None:
    async def durable() -> None:
        raise StoreUnavailable("the disk is full")

    desk.service.durable = durable  # type: ignore[method-assign]
    assert (await desk.post(b'{"reservation": "rsv_1"}')).status == 503
    assert [report.reservation for report in desk.service.reports] == ["rsv_1"], (
        "the next try finds `already`"
    )


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(b'{"\xff":1,"prompt_tokens":3}', id="a name"),
        pytest.param(b'{"prompt_tokens":"\xff"}', id="a value"),
        pytest.param(b'"\xff"', id="all of it"),
    ],
)
async def test_a_usage_that_is_no_text_keeps_no_other_report_waiting(desk: Desk, usage: bytes) -> None:
    """Traefik hands over what a model server wrote, and would ask again for ever."""
    results = await desk.results(b'[{"reservation":"a","usage":' + usage + b'},{"reservation":"b"}]')
    assert [each["outcome"] for each in results] == ["settled", "settled"]
    assert desk.rejected == [("my-traefik", "not_an_object")]
