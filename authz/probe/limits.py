"""What is too large, and what is too much."""

import time
from collections.abc import Iterator
from typing import Final

from authz.probe.finding import Finding, judged, unseen
from authz.probe.scene import CHAT, Scene, is_our_error, told
from authz.probe.wire import Answer

_MOST_SENT: Final = 64 << 20  # bytes
_IN_FORCE: Final = 10.0  # seconds; the service notices a new key within one


def too_large(scene: Scene) -> Iterator[Finding]:
    """One byte too many, none of which is JSON: nobody computes anything for it."""
    probe, expected = f"a body over {scene.max_body} bytes", "413, an error in JSON"
    if scene.max_body > _MOST_SENT:
        yield unseen(probe, expected, f"not tried: more than {_MOST_SENT >> 20} MiB")
        return
    typed = [("Content-Type", "application/json")]
    answer = scene.ask("POST", CHAT, typed, b" " * (scene.max_body + 1), key=scene.key)
    advice = f"limit bodies to gateways.{scene.gateway}.max_body, and answer 413 in JSON"
    # Whoever refuses a body unread may reset the connection: then the rest of the answer can be lost.
    right = answer.status == 413 and (is_our_error(answer) or not answer.whole)
    yield judged(probe, expected, told(answer), right, advice)


def too_many(scene: Scene) -> Iterator[Finding]:
    """A key that may ask once a minute asks twice."""
    probe, expected = "the second of one request a minute", "429, Retry-After, an error in JSON"
    if scene.rate_headers:
        expected = "429, Retry-After, RateLimit, an error in JSON"
    if scene.witness is None or scene.model is None:
        yield unseen(probe, expected, "not tried: it takes a key that is made in the store")
        return
    with scene.witness.key_for(scene.key, scene.model) as key:
        first = _once_known(scene, key)
        if first.status != 200:
            yield unseen(probe, expected, f"not tried: the first with a key of its own got {told(first)}")
            return
        answer = scene.chat(key=key)
    needed = ["retry-after", *(("ratelimit", "x-ratelimit-limit-requests") if scene.rate_headers else ())]
    missing = [name for name in needed if answer.header(name) is None]
    if not is_our_error(answer):
        missing.append("an error in JSON")
    seen = told(answer) + (f", without {', '.join(missing)}" if missing else "")
    right = answer.status == 429 and not missing
    advice = "hand authz's answer on as it is: status, headers and body"
    if answer.status == 500:
        advice = "nginx's auth_request makes 500 of 429: see the rendered configuration (authz render nginx)"
    yield judged(probe, expected, seen, right, advice)


def _once_known(scene: Scene, key: str) -> Answer:
    deadline = time.monotonic() + _IN_FORCE
    while True:
        answer = scene.chat(key=key)
        if answer.status != 401 or time.monotonic() > deadline:
            return answer
        time.sleep(0.3)
