"""What the probes work with: a gateway, a key, and whoever can tell what authz made of a request."""

import json
from collections.abc import Sequence
from typing import Any, Final

from authz.probe.wire import Answer, Target, ask
from authz.probe.witness import Witness

MODELS: Final = "/v1/models"
CHAT: Final = "/v1/chat/completions"
WRONG_KEY: Final = "sk-not-a-key-of-anybody"
FEW: Final = 8  # tokens at most of an answer

Headers = Sequence[tuple[str, str]]


class Scene:
    """Counts what it asks, so that the cost can be told."""

    def __init__(
        self,
        target: Target,
        *,
        gateway: str,
        kind: str,
        key: str,
        model: str | None = None,
        max_body: int,
        rate_headers: bool = True,
        reported: bool = True,
        headers: Headers = (),
        echo: str | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.target = target
        self.gateway = gateway  # its name in `gateways`
        self.kind = kind
        self.key = key
        self.model = model
        self.max_body = max_body  # bytes
        self.rate_headers = rate_headers  # whether authz sends any
        self.reported = reported  # whether this gateway tells authz what the model server counted
        self.echo = echo  # a path where the model server answers what it received
        self.witness = witness
        self.clean: str | None = None  # the request id of a chat with nothing but the key
        self.settles = True  # until it is seen that what was used is not told
        self.requests = 0
        self.chats = 0
        self._headers = tuple(headers)

    def ask(
        self, method: str, path: str, headers: Headers = (), body: bytes = b"", *, key: str | None = None
    ) -> Answer:
        """One request, with the key that is given. Raises Unreachable."""
        self.requests += 1
        credential = [("Authorization", f"Bearer {key}")] if key is not None else []
        return ask(self.target, method, path, [*credential, *self._headers, *headers], body)

    def chat(self, headers: Headers = (), *, key: str | None = None, stream: bool = False) -> Answer:
        """A chat of a few tokens. Only one that is let through costs something."""
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Count from one to eight."}],
            "max_tokens": FEW,
        }
        if stream:
            asked["stream"] = True
        body = json.dumps(asked).encode()
        typed = [("Content-Type", "application/json"), *headers]
        answer = self.ask("POST", CHAT, typed, body, key=self.key if key is None else key)
        self.chats += answer.status < 400
        return answer


def told(answer: Answer) -> str:
    """An answer in few words: `401 missing_credentials`."""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return f"{answer.status} {code}" if isinstance(code, str) else str(answer.status)


def is_our_error(answer: Answer) -> bool:
    """Whether the body is an error in OpenAI's shape, with a code."""
    return " " in told(answer)
