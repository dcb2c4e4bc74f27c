"""Who gets in: nobody without a key, the key itself, and no two at once."""

from collections.abc import Iterator
from typing import Final

from authz.probe.finding import Finding, judged
from authz.probe.scene import MODELS, WRONG_KEY, Scene, is_our_error, told

_ASK_FIRST: Final = (
    "the gateway does not ask authz here: put its auth request on every path (docs/gateways.md)"
)


def strangers(scene: Scene) -> Iterator[Finding]:
    """Without a key, and with a wrong one."""
    for probe, key in (("no key", None), ("a wrong key", WRONG_KEY)):
        answer = scene.ask("GET", MODELS, key=key)
        right = answer.status == 401 and is_our_error(answer)
        advice = (
            _ASK_FIRST if answer.status < 400 else "let authz's refusal through, status, headers and body"
        )
        yield judged(probe, "401, an error in JSON", told(answer), right, advice)


def chat_of_a_stranger(scene: Scene) -> Iterator[Finding]:
    """The path that costs something, too."""
    answer = scene.chat(key=WRONG_KEY)
    advice = _ASK_FIRST if answer.status < 400 else "let authz's refusal through, status, headers and body"
    yield judged("a chat with a wrong key", "401", told(answer), answer.status == 401, advice)


def the_key(scene: Scene) -> Iterator[Finding]:
    """`GET /v1/models`; chooses the model where none is named."""
    answer = scene.ask("GET", MODELS, key=scene.key)
    listed = answer.json()
    names: list[str] = []
    if isinstance(listed, dict) and isinstance(listed.get("data"), list):
        names = [each["id"] for each in listed["data"] if isinstance(each, dict) and "id" in each]
    if scene.model is None and names:
        scene.model = names[0]
    right = answer.status == 200 and bool(names)
    seen = f"200, {len(names)} models" if right else told(answer)
    advice = "authz check --key - --path /v1/models --method GET says why the key may not"
    yield judged("the key: GET /v1/models", "200, a list of models", seen, right, advice)


def a_chat(scene: Scene) -> Iterator[Finding]:
    """A small one, and the id under which authz knows it."""
    answer = scene.chat()
    id = answer.header("x-request-id")
    expected = "200, x-request-id"
    if answer.status != 200:
        advice = f"authz decisions show {id} says why" if id else "see whether the model server answers"
        if told(answer).endswith((" body_required", " model_required")):
            advice = "hand the body on to authz: it cannot judge the model that it does not see"
        yield judged("the key: a chat", expected, told(answer), False, advice)
    else:
        advice = "hand authz's x-request-id on to the client: without it no refusal can be looked up"
        scene.clean = id
        yield judged("the key: a chat", expected, "200" + (", x-request-id" if id else ""), bool(id), advice)


def two_keys(scene: Scene) -> Iterator[Finding]:
    """Which of two would count? Neither."""
    answer = scene.chat([("Authorization", f"Bearer {WRONG_KEY}")])
    advice = "hand both headers on to authz, or refuse: whoever takes one may take another than the next hop"
    yield judged("Authorization twice", "400", told(answer), answer.status == 400, advice)
