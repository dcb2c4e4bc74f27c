"""Headers by which a client might pass for somebody else."""

from collections.abc import Iterator
from typing import Final

from authz.probe.finding import Finding, judged, unseen
from authz.probe.scene import MODELS, WRONG_KEY, Headers, Scene, told
from authz.store.records import Entry

MARK: Final = "authz-gateways-test-somebody-else"
_ADDRESS: Final = "198.51.100.77"  # RFC 5737: documentation
_NAMES: Final = ("user", "team", "key", "model", "reservation", "request-id")
_IDENTITY: Final[Headers] = (
    *((f"x-authz-{name}", MARK) for name in _NAMES),
    ("X-Forwarded-User", MARK),
)
_SPOOFED: Final[Headers] = (
    *_IDENTITY,
    ("X-Request-Id", MARK),
    ("X-Forwarded-For", _ADDRESS),
    ("X-Real-Ip", _ADDRESS),
    ("Forwarded", f"for={_ADDRESS}"),
    ("X-Forwarded-Client-Cert", f"URI=spiffe://{MARK}"),
    ("X-Client-Cert", MARK),
    ("X-Client-Verify", "SUCCESS"),
)
_ALIASES: Final[Headers] = (("x_authz_user", MARK), ("x.authz.user", MARK))
_TOKEN: Final = ("x-authz-gateway-token", MARK)
_NO_STORE: Final = "whom authz took it for: nothing of it is in the ledger that is in reach"
_NO_RECORD: Final = (
    "authz's record of a refusal: the store is out of reach, or the answer had no x-request-id"
)
_CLEAN: Final = "remove these headers before asking authz and before forwarding (docs/gateways.md)"


def claims_without_a_key(scene: Scene) -> Iterator[Finding]:
    """Claims instead of a key."""
    answer = scene.ask("GET", MODELS, [*_SPOOFED, _TOKEN])
    yield judged("no key, but x-authz-user", "401", told(answer), answer.status == 401, _CLEAN)


def proof(scene: Scene) -> Iterator[Finding]:
    """Whether authz knows which gateway asks: it notes it with a refusal."""
    expected = f"{scene.gateway}, by its token or certificate"
    id = scene.chat(key=WRONG_KEY).header("x-request-id")
    denial = scene.witness.denial(id) if scene.witness is not None and id is not None else None
    if denial is None:
        yield unseen("the gateway's proof", expected, _NO_RECORD)
        return
    advice = f"it shows no proof, or a wrong one: see gateways.{scene.gateway} and the gateway's log"
    right = denial.gateway == scene.gateway
    yield judged("the gateway's proof", expected, denial.gateway or "nobody", right, advice)


def claims_beside_a_key(scene: Scene) -> Iterator[Finding]:
    """A chat with spoofed headers is the key's own."""
    clean = _clean(scene)
    for probe, headers, may_refuse in (
        ("a chat with x-authz-*, X-Forwarded-*, a certificate", _SPOOFED, False),
        ("a chat with x-authz-gateway-token", (_TOKEN,), False),
        ("a chat with x_authz_user, x.authz.user", _ALIASES, True),
    ):
        yield _compared(scene, probe, headers, clean, may_refuse=may_refuse)


def _compared(
    scene: Scene, probe: str, headers: Headers, clean: Entry | None, *, may_refuse: bool
) -> Finding:
    answer = scene.chat(headers)
    expected = "the key's own user" + (", or 400" if may_refuse else "")
    if may_refuse and answer.status == 400:
        return judged(probe, expected, told(answer), True, "")
    if answer.status != 200:
        return judged(probe, expected, told(answer), False, _CLEAN)
    id = answer.header("x-request-id")
    if id == MARK:
        return judged(probe, expected, "200, under the client's x-request-id", False, _CLEAN)
    if scene.witness is None or clean is None or id is None:
        return unseen(probe, expected, f"200; not {_NO_STORE}")
    entry = scene.witness.entry(id)
    if entry is None:
        return unseen(probe, expected, f"200; not {_NO_STORE}")
    same = (entry.facts.user, entry.facts.key) == (clean.facts.user, clean.facts.key)
    return judged(probe, expected, entry.facts.user, same and entry.gateway == scene.gateway, _CLEAN)


def _clean(scene: Scene) -> Entry | None:
    """What the ledger has of the chat that came with nothing but the key."""
    if scene.witness is None or scene.clean is None or not scene.settles:
        return None
    return scene.witness.entry(scene.clean)


def address_in_a_header(scene: Scene) -> Iterator[Finding]:
    """The address that authz notes of a refusal is not the one that the client wrote."""
    probe, expected = "X-Forwarded-For of the client", "another address in the log of refusals"
    answer = scene.ask("GET", MODELS, [("X-Forwarded-For", _ADDRESS), ("X-Real-Ip", _ADDRESS)])
    id = answer.header("x-request-id")
    denial = scene.witness.denial(id) if scene.witness is not None and id is not None else None
    if denial is None:
        yield unseen(probe, expected, f"{told(answer)}; not {_NO_RECORD}")
        return
    seen = denial.ip or "none, for the gateway did not prove itself"
    advice = "overwrite X-Forwarded-For by the address of the connection"
    yield judged(probe, expected, seen, denial.ip not in {"", _ADDRESS}, advice)


def what_goes_upstream(scene: Scene) -> Iterator[Finding]:
    """What the model server receives, where a path of it tells."""
    probe, expected = "what the model server receives", "none of the client's x-authz-*, nor its key"
    if scene.echo is None:
        why = "not tried: name a path with --echo where the model server answers what it received"
        yield unseen(probe, expected, why)
        return
    answers = [scene.ask("GET", scene.echo, _IDENTITY, key=scene.key)]
    aliased = scene.ask("GET", scene.echo, _ALIASES, key=scene.key)
    if aliased.status != 400:
        answers.append(aliased)
    if any(answer.status != 200 for answer in answers):
        yield unseen(probe, expected, f"{told(answers[0])}, {told(aliased)} from {scene.echo}")
        return
    received = [answer.body.decode("latin-1") for answer in answers]
    key = any(scene.key in text for text in received)
    mark = any(MARK in text for text in received)
    seen = ", ".join(["the client's x-authz-*"] * mark + ["the client's key"] * key) or "neither"
    yield judged(probe, expected, seen, not (key or mark), f"{_CLEAN}; drop Authorization and x-api-key")
