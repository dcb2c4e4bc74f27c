"""What a decision needs to know of a JSON body: read once, strictly, without building the rest.

Parsers disagree about repeated keys and letter case, so a body in which they
could disagree about a field we govern is refused (attacks 84-89).
"""

import re
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from msgspec import Raw, Struct

from authz.printed import more_tokens
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Request

MOST_QUOTES = 200_000  # bounds the work on a hostile body: at most 100,000 strings or keys
MOST_FIELDS = 256
LONGEST_MODEL = 256
LONGEST_NAME = 256
MOST_CHOICES = 128
MOST_PROMPTS = 2048  # as many inputs as the OpenAI API takes in one request
LONGEST_NUMBER = 32

_NAME = rb'"(?:[^"\\]++|\\.)*+"[ \t\r\n]*:[ \t\r\n]*'
_OPENING = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*(?:" + _NAME + rb")?", re.DOTALL)
_NEXT = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*" + _NAME, re.DOTALL)
_CLOSING = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*")
_MODEL = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
_fields = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)
_texts = msgspec.json.Decoder(list[str])
_items = msgspec.json.Decoder(list[Raw])

GOVERNED = frozenset(
    {
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n_predict",
        "n",
        "n_cmpl",
        "best_of",
    }
    | {"prompt", "input", "messages", "previous_response_id", "usage"}
)
CHOICES = frozenset({"n", "best_of", "n_cmpl"})  # the last is llama.cpp's own, and goes before its `n`
OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
_TOOLS = frozenset({"tools", "functions"})
# A stored conversation or prompt, other media than messages carry, a template that may say anything.
_POINTERS = frozenset(
    {"conversation", "images", "image_data", "prompt_embeds", "multi_modal_data", "chat_template"}
)
_EDITABLE = frozenset({"stream_options", *OUTPUT_LIMITS})

Place = tuple[int, bytes]
"""Where in the body a member's value begins, and the value as it is written there."""

_NOWHERE: Mapping[str, Place] = {}


class Peek(Struct, frozen=True, kw_only=True):
    """The governed fields of one body."""

    model: str | None = None
    stream: bool = False
    max_output: int | None = None  # tokens; the largest of the fields that ask for it
    choices: int = 1  # answers produced per prompt: the largest of CHOICES
    prompts: int = 1
    size: int = 0  # bytes of the body
    text: int = 0  # of them, without the members that limit the answer: no input is in those
    opening: int = 0  # where the first member may begin: behind the brace
    tools: bool = False  # there are some
    printed: int = 0  # tokens that printing what is in the body may add to it: see `_printed`
    points: bool = False  # a member points at input that is not in the body
    places: Mapping[str, Place] = _NOWHERE  # of the members that a gateway may be told to change


NOTHING = Peek()


class _Fault(Exception):
    """Carries a refusal out of the field readers."""

    def __init__(self, reason: Reason, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.refusal = Refusal(reason, message, param)


def peek(request: Request) -> Peek | Refusal:
    """Read a JSON body, or say why it cannot be read. A request without a body gives NOTHING."""
    state = request.body_state
    if state is BodyState.NONE:
        return NOTHING
    if state is BodyState.PARTIAL:
        return Refusal(Reason.BODY_INCOMPLETE)
    if state is BodyState.WITHHELD:
        return Refusal(
            Reason.BODY_REQUIRED, "The gateway did not hand over the body, and this route needs it."
        )
    headers = request.headers
    encoding = headers.get("content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        return Refusal(Reason.UNSUPPORTED_ENCODING)
    if not is_json(headers.get("content-type", "")) or "content-type" in request.repeated:
        return Refusal(Reason.UNSUPPORTED_MEDIA_TYPE)
    try:
        return _governed(request.body)
    except _Fault as fault:
        return fault.refusal


def is_json(content_type: str) -> bool:
    """application/json or a +json type, in UTF-8."""
    if content_type == "application/json":
        return True
    kind, _, parameters = content_type.lower().partition(";")
    kind = kind.strip()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return False
    charset = [
        value
        for name, _, value in (p.strip().partition("=") for p in parameters.split(";"))
        if name == "charset"
    ]
    return all(value.strip('"') in ("utf-8", "utf8") for value in charset)


def _members(body: bytes) -> tuple[dict[str, bytes], Mapping[str, Place], int]:
    """The object's members, see `_laid` for the rest. Refuses invalid JSON and too much of anything."""
    if body.count(b'"') > MOST_QUOTES:
        raise _Fault(Reason.BODY_TOO_LARGE, "The body holds too many fields.")
    try:
        body.decode("utf-8")
        fields = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Fault(Reason.BAD_BODY, "The body is not a valid JSON object in UTF-8.") from error
    if len(fields) > MOST_FIELDS:
        raise _Fault(Reason.BODY_TOO_LARGE, f"The body has more than {MOST_FIELDS} fields.")
    if any(len(name) > LONGEST_NAME for name in fields):
        raise _Fault(Reason.BODY_TOO_LARGE, f"A field's name is longer than {LONGEST_NAME} characters.")
    raws = {name: bytes(raw) for name, raw in fields.items()}
    return raws, *_laid(body, raws)


def _laid(body: bytes, raws: dict[str, bytes]) -> tuple[Mapping[str, Place], int]:
    """The decoder keeps the last of two equal names: lay its members over the text; nothing may be left.

    Members come in order of first appearance, so with a repeat either a value
    does not match or text remains. Costs one regex match a member. Returns where
    some of them are, and how many bytes those that limit the answer take.
    """
    pattern, position = _OPENING, 0
    places: dict[str, Place] = {}
    aside = 0
    for name, raw in raws.items():
        member = pattern.match(body, position)
        if member is None or not body.startswith(raw, member.end()):
            raise _repeated(name)
        behind, begin = position, member.end()
        position = begin + len(raw)
        pattern = _NEXT
        if name in GOVERNED:
            if name in _EDITABLE:
                places[name] = (begin, raw)
                if name != "stream_options":
                    aside += position - (
                        behind or body.index(b"{")
                    )  # with its comma, or the brace in its place
        elif (folded := name.casefold()) in GOVERNED:
            message = f"Write {folded!r} exactly so: readers disagree about its letter case."
            raise _Fault(Reason.DUPLICATE_FIELD, message, folded)
        if len(raw) > LONGEST_NUMBER and raw[0] in b"-0123456789":
            raise _Fault(
                Reason.BAD_PARAMETER, "A number has too many digits.", name if name.isascii() else None
            )
    if raws and _CLOSING.fullmatch(body, position) is None:
        raise _repeated(None)
    return places, aside


def _repeated(name: str | None) -> _Fault:
    return _Fault(
        Reason.DUPLICATE_FIELD, "A field appears twice in the body.", name if name in GOVERNED else None
    )


def _governed(body: bytes) -> Peek:
    raws, places, aside = _members(body)
    most: int | None = None
    for name in places:
        if name == "stream_options":
            if raws[name][:1] not in b"{n":
                raise _Fault(Reason.BAD_PARAMETER, "`stream_options` must be an object.", name)
        elif (limit := _whole(raws, name, 1, 2**31 - 1)) is not None and (most is None or limit > most):
            most = limit
    return Peek(
        model=_model(raws),
        stream=_flag(raws, "stream"),
        max_output=most,
        choices=1
        if CHOICES.isdisjoint(raws)
        else max(_whole(raws, each, 1, MOST_CHOICES) or 1 for each in CHOICES),
        prompts=max(_count(raws, "prompt"), _count(raws, "input") if "messages" not in raws else 1),
        size=len(body),
        text=len(body) - aside,
        tools=not _TOOLS.isdisjoint(raws) and any(len(raws.get(name, b"")) > len("null") for name in _TOOLS),
        printed=_printed(raws),
        points=raws.get("prompt", b"")[:1] == b"{"
        or not (_POINTERS.isdisjoint(raws) or all(raws.get(name, b"null") == b"null" for name in _POINTERS)),
        opening=body.index(b"{") + 1,
        places=places,
    )


def _model(raws: dict[str, bytes]) -> str | None:
    raw = raws.get("model")
    if raw is None or raw == b"null":
        return None
    if raw[:1] == b'"' and len(raw) <= 6 * LONGEST_MODEL + 2:  # each character at most a \uXXXX
        with suppress(msgspec.DecodeError):  # half of a surrogate pair, which only decoding notices
            model = _text.decode(raw)
            if is_model_name(model):
                return model
    message = "`model` must be a name in printable ASCII of at most 256 characters."
    raise _Fault(Reason.BAD_PARAMETER, message, "model")


def is_model_name(text: str) -> bool:
    """Whether it is printable ASCII of a name's length, without spaces around it."""
    return len(text) <= LONGEST_MODEL and _MODEL.fullmatch(text) is not None


def _flag(raws: dict[str, bytes], name: str) -> bool:
    raw = raws.get(name, b"null")
    if raw in (b"null", b"false", b"true"):
        return raw == b"true"
    raise _Fault(Reason.BAD_PARAMETER, f"`{name}` must be true or false.", name)


def _whole(raws: dict[str, bytes], name: str, least: int, most: int) -> int | None:
    raw = raws.get(name)
    if raw is None or raw == b"null":
        return None
    # "1.0", "1e2", "true" and '"10"' are read as 1, 100, 1 and 10 by some backends and refused by others.
    if not raw.isdigit() or not least <= int(raw) <= most:
        raise _Fault(Reason.BAD_PARAMETER, f"`{name}` must be a whole number from {least} to {most}.", name)
    return int(raw)


def _count(raws: dict[str, bytes], name: str) -> int:
    """How many prompts a field holds: a list of texts or of token lists; anything else is one.

    Told by the first item, so that nothing large is built: a list of tokens or messages is not read on.
    llama.cpp mixes texts, token lists and objects, each a prompt; elsewhere objects are messages.
    """
    raw = raws.get(name, b"")
    first = raw[1:].lstrip(b" \t\r\n")[:1] if raw[:1] == b"[" else b""
    if first == b'"':
        count = _texts_in(raw, name)
    elif first == b"[" and b'"' not in raw and b"{" not in raw:
        count = raw.count(b"[") - 1
    elif first == b"[" or (first == b"{" and name == "prompt"):
        count = len(_items.decode(raw))
    else:
        count = 1
    if count > MOST_PROMPTS:
        raise _Fault(Reason.BAD_PARAMETER, f"`{name}` holds more than {MOST_PROMPTS} entries.", name)
    return count


def _printed(raws: dict[str, bytes]) -> int:
    """Tools are printed on lines of their own, the arguments of their calls with spaces."""
    tokens = 0
    if not _TOOLS.isdisjoint(raws):
        tokens = sum(more_tokens(raws[name]) for name in _TOOLS if name in raws)
    said = raws.get("messages") or raws.get("input") or b""
    if b'"tool_' in said or b'"function_call' in said:
        tokens += said.count(b",") + said.count(b":")
    return tokens


def _texts_in(raw: bytes, name: str) -> int:
    try:
        return len(_texts.decode(raw))
    except msgspec.DecodeError as error:
        raise _Fault(Reason.BAD_PARAMETER, f"`{name}` must be a text or a list of texts.", name) from error
