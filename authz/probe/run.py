"""All probes, in an order in which each may rely on those before."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

from authz.probe import credentials, identity, limits, paths, streaming
from authz.probe.finding import Finding, Verdict, judged, unseen
from authz.probe.scene import Scene
from authz.probe.wire import Unreachable

Probe = Callable[[Scene], Iterator[Finding]]

_OPEN: Final[Sequence[Probe]] = (credentials.strangers, identity.claims_without_a_key)
_KEYED: Final[Sequence[Probe]] = (
    paths.path_tricks,
    paths.path_in_a_header,
    identity.address_in_a_header,
    identity.what_goes_upstream,
    limits.too_large,
)
_CHATTING: Final[Sequence[Probe]] = (
    credentials.chat_of_a_stranger,
    credentials.two_keys,
    identity.proof,
    streaming.stream,
    identity.claims_beside_a_key,
    limits.too_many,
)


def probe(scene: Scene) -> Iterator[Finding]:
    """Each finding as it is made. Raises Unreachable where nothing answers at all."""
    for each in _OPEN:
        yield from each(scene)
    if (yield from _works(scene, credentials.the_key)):
        for each in _KEYED:
            yield from _safely(scene, each)
        if scene.model is None:
            yield unseen("chats", "a model that the key may use", "not tried: name one with --model")
        elif (yield from _works(scene, credentials.a_chat)):
            for each in _CHATTING:
                yield from _safely(scene, each)
        else:
            yield unseen("identity, streams, limits", "a chat that works", "not tried")
    else:
        yield unseen("everything else", "a key that works", "not tried")


def _works(scene: Scene, each: Probe) -> Generator[Finding, None, bool]:
    """Whether nothing was wrong."""
    found = list(_safely(scene, each))
    yield from found
    return not any(finding.verdict is Verdict.WRONG for finding in found)


def _safely(scene: Scene, each: Probe) -> Iterator[Finding]:
    """A connection that breaks is a finding, too."""
    try:
        yield from each(scene)
    except Unreachable as error:
        name = each.__name__.replace("_", " ")
        yield judged(name, "an answer", str(error), False, "the gateway broke off: see its log")
