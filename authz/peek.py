"""What a decision needs to know of a JSON body: read once, strictly, without building the rest.

Parsers disagree about repeated keys and letter case, so a body in which they
could disagree about a field we govern is refused (attacks 84-89).
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache

import msgspec
from msgspec import Raw, Struct

from authz.members import NotAnObject, Place, Repeated, TooMuch, members_of, place_of
from authz.printed import more_tokens
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Request

LONGEST_MODEL = 256
MOST_CHOICES = 128
MOST_PROMPTS = 2048  # as many inputs as the OpenAI API takes in one request
MOST_COMMAS = 200_000  # in a list of prompts of several kinds: bounds the work on a hostile one
LONGEST_NUMBER = 32
MOST_NAMES_KNOWN = 24  # members of a body whose shape is remembered: names are up to 256 characters long

_MODEL = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
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
_NONE: Mapping[str, int] = {}


class Peek(Struct, frozen=True, kw_only=True, gc=False):
    """The governed fields of one body."""

    model: str | None = None
    stream: bool = False
    limits: Mapping[str, int] = _NONE  # tokens that OUTPUT_LIMITS ask for; null asks for none
    choices: int = 1  # answers produced per prompt: the largest of CHOICES
    prompts: int = 1
    size: int = 0  # bytes of the body
    text: int = 0  # of them, without blanks around members and without those that limit the answer: no input
    tools: bool = False  # there are some
    hints: bool = False  # a word in it may mean calls of tools, or input from elsewhere
    printed: int = 0  # tokens that printing what is in the body may add to it: see `_printed`
    points: bool = False  # a member points at input that is not in the body
    body: bytes = b""  # where it was read

    @property
    def max_output(self) -> int | None:
        """Tokens: the largest of the fields that ask for it."""
        return max(self.limits.values()) if self.limits else None

    @property
    def opening(self) -> int:
        """Where the first member may begin: behind the brace."""
        return self.body.index(b"{") + 1

    def place(self, name: str) -> Place | None:
        """Where a member's value stands in the body; None: there is no such member."""
        return place_of(name, self.body) if self.size else None

    def __repr__(self) -> str:
        """The body is shown by nothing."""
        return f"<Peek of {self.size} bytes for {self.model}>"


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


def _governed(body: bytes) -> Peek:
    try:
        members, written = members_of(body)
    except NotAnObject as error:
        raise _Fault(Reason.BAD_BODY, str(error)) from error
    except TooMuch as error:
        raise _Fault(Reason.BODY_TOO_LARGE, str(error)) from error
    except Repeated as error:
        raise _Fault(
            Reason.DUPLICATE_FIELD, str(error), error.name if error.name in GOVERNED else None
        ) from error
    names = tuple(members)
    shape = _known_shape(names) if len(names) <= MOST_NAMES_KNOWN else _Shape.of(names)
    _refuse_endless_numbers(members)
    if shape.options and members["stream_options"][:1] not in b"{n":
        raise _Fault(Reason.BAD_PARAMETER, "`stream_options` must be an object.", "stream_options")
    limits, aside = _limits(members, shape.limits) if shape.limits else (_NONE, 0)
    hints = _hints_in(body)
    return Peek(
        model=_name_in(members["model"]) if shape.model else None,
        stream=shape.stream and _flag(members, "stream"),
        limits=limits,
        choices=max(_whole(members, each, 1, MOST_CHOICES) or 1 for each in shape.choices)
        if shape.choices
        else 1,
        prompts=max(_count(members, each) for each in shape.prompts) if shape.prompts else 1,
        size=len(body),
        text=written - aside,
        tools=any(len(members[name]) > len("null") for name in shape.tools) if shape.tools else False,
        hints=hints,
        printed=_printed(members, shape.tools) if shape.tools or hints else 0,
        points=_points(members, shape) if shape.points else False,
        body=body,
    )


class _Shape(Struct, frozen=True, gc=False):
    """Which of the members that we look at a body has: many bodies have the same. Each in our order."""

    model: bool
    stream: bool
    options: bool
    points: bool
    limits: tuple[str, ...]
    choices: tuple[str, ...]
    prompts: tuple[str, ...]  # how many there are says how many answers are asked for
    tools: tuple[str, ...]
    pointers: tuple[str, ...]

    @classmethod
    def of(cls, names: tuple[str, ...]) -> "_Shape":
        """Raises _Fault where a governed name stands in other letters, which some readers take for it."""
        for name in names:
            folded = name.casefold()
            if folded != name and folded in GOVERNED:
                message = f"Write {folded!r} exactly so: readers disagree about its letter case."
                raise _Fault(Reason.DUPLICATE_FIELD, message, folded)
        counted = ("prompt",) if "messages" in names else ("prompt", "input")

        def those(of: Iterable[str]) -> tuple[str, ...]:
            return tuple([name for name in of if name in names])

        return cls(
            model="model" in names,
            stream="stream" in names,
            options="stream_options" in names,
            points="prompt" in names or not _POINTERS.isdisjoint(names),
            limits=those(OUTPUT_LIMITS),
            choices=those(CHOICES),
            prompts=those(counted),
            tools=those(_TOOLS),
            pointers=those(_POINTERS),
        )


_known_shape = lru_cache(maxsize=1024)(_Shape.of)


def _refuse_endless_numbers(members: dict[str, bytes]) -> None:
    for name, raw in members.items():
        if len(raw) > LONGEST_NUMBER and raw[0] in b"-0123456789":
            raise _Fault(
                Reason.BAD_PARAMETER, "A number has too many digits.", name if name.isascii() else None
            )


def _limits(members: dict[str, bytes], names: tuple[str, ...]) -> tuple[Mapping[str, int], int]:
    """What the answer is limited to, and how many bytes say so, with their names and commas."""
    limits: dict[str, int] = {}
    aside = 0
    for name in names:
        aside += len(name) + len(members[name]) + len('"":,')
        limit = _whole(members, name, 1, 2**31 - 1)
        if limit is not None:
            limits[name] = limit
    return limits, aside


@lru_cache(maxsize=1024)
def _name_in(raw: bytes) -> str | None:
    if raw == b"null":
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


def _flag(members: dict[str, bytes], name: str) -> bool:
    raw = members.get(name, b"null")
    if raw in (b"null", b"false", b"true"):
        return raw == b"true"
    raise _Fault(Reason.BAD_PARAMETER, f"`{name}` must be true or false.", name)


def _whole(members: dict[str, bytes], name: str, least: int, most: int) -> int | None:
    raw = members.get(name)
    if raw is None or raw == b"null":
        return None
    # "1.0", "1e2", "true" and '"10"' are read as 1, 100, 1 and 10 by some backends and refused by others.
    if not raw.isdigit() or not least <= int(raw) <= most:
        raise _Fault(Reason.BAD_PARAMETER, f"`{name}` must be a whole number from {least} to {most}.", name)
    return int(raw)


def _points(members: dict[str, bytes], shape: _Shape) -> bool:
    if any(members[name] != b"null" for name in shape.pointers):
        return True
    return members.get("prompt", b"")[:1] == b"{"


def _count(members: dict[str, bytes], name: str) -> int:
    """How many prompts a field holds: a list of texts or of token lists; anything else is one.

    Told by the first item, so that nothing large is built: a list of tokens or messages is not read on.
    llama.cpp mixes texts, token lists and objects, each a prompt; elsewhere objects are messages.
    """
    raw = members.get(name, b"")
    first = raw[1:].lstrip(b" \t\r\n")[:1] if raw[:1] == b"[" else b""
    if first == b'"':
        count = _texts_in(raw, name)
    elif first == b"[" and b'"' not in raw and b"{" not in raw:
        count = raw.count(b"[") - 1
    elif first == b"[" or (first == b"{" and name == "prompt"):
        if raw.count(b",") > MOST_COMMAS:
            raise _Fault(Reason.BAD_PARAMETER, f"`{name}` is too long for a list of several kinds.", name)
        count = len(_items.decode(raw))
    else:
        count = 1
    if count > MOST_PROMPTS:
        raise _Fault(Reason.BAD_PARAMETER, f"`{name}` holds more than {MOST_PROMPTS} entries.", name)
    return count


# What a model reads from elsewhere. Inside a text the quotes would be escaped: only names and values match.
ELSEWHERE = frozenset(
    {"image", "image_url", "input_image", "input_file", "file", "document"}
    | {"input_audio", "video_url", "audio_url", "image_embeds", "audio_embeds", "multimodal_data"}
    | {"previous_response_id", "item_reference", "chat_template"}
)
_CALLS = (b'"tool_', b'"function_call')
_HINTS = re.compile(rb'"(?:tool_|function_call|(?:%s)")' % "|".join(sorted(ELSEWHERE)).encode())


def _hints_in(body: bytes) -> bool:
    """A word may also be written with escapes."""
    return _HINTS.search(body) is not None or (b"\\" in body and b"\\u00" in body)


def _printed(members: dict[str, bytes], tools: tuple[str, ...]) -> int:
    """Tools are printed on lines of their own, the arguments of their calls with spaces."""
    tokens = sum([more_tokens(members[name]) for name in tools])
    said = members.get("messages") or members.get("input") or b""
    if any(call in said for call in _CALLS):
        tokens += said.count(b",") + said.count(b":")
    return tokens


def _texts_in(raw: bytes, name: str) -> int:
    try:
        return len(_texts.decode(raw))
    except msgspec.DecodeError as error:
        raise _Fault(Reason.BAD_PARAMETER, f"`{name}` must be a text or a list of texts.", name) from error
