"""The header fields of a CheckRequest, out of the pieces of bytes that they come in."""

from collections.abc import Iterable

from authz.header_text import is_field_value
from authz.transport.check.wire import Entry
from authz.transport.headers import CLIENT, SPOOFED, Fields, classify

_MOST_REMEMBERED = 4096
_LONGEST_REMEMBERED = 160  # bytes
# What many requests say alike and no credential is in. Anything else is read anew each time.
_REMEMBERED = frozenset(
    {":method", ":scheme", ":authority", ":path", "accept", "accept-encoding", "accept-language"}
    | {"connection", "content-length", "content-type", "user-agent", "x-forwarded-proto", "openai-beta"}
    | {"x-envoy-auth-partial-body", "x-envoy-expected-rq-timeout-ms", "anthropic-version"}
)
_REMEMBERED_PREFIX = "x-stainless-"  # the clients of OpenAI and Anthropic send eight of them

_KEY, _VALUE, _RAW_VALUE = 0x0A, 0x12, 0x1A  # field numbers 1, 2 and 3, each length-delimited

_ODD = 2  # instead of a heap: spoofed, or with a control character in it
_Read = tuple[str, int, str]  # name, heap, value
_remembered: dict[bytes, _Read] = {}


def fields_of(entries: Iterable[bytes]) -> Fields:
    """The fields, told apart. Raises DecodeError where an entry is no HeaderValue."""
    client: dict[str, str] = {}
    gateway: dict[str, str] = {}
    fields = Fields(client, gateway, set(), set(), [], None)
    heaps = (client, gateway)
    remembered = _remembered
    for entry in entries:
        name, heap, text = remembered.get(entry) or _read(entry)
        if heap == _ODD:
            heap = _take_odd(entry, fields)
            if heap == SPOOFED:
                continue
        into = heaps[heap]
        if name in into:
            (fields.repeated if heap == CLIENT else fields.doubled).add(name)
            into[name] = f"{into[name]}, {text}"
        else:
            into[name] = text
    return fields


def _take_odd(entry: bytes, fields: Fields) -> int:
    """Note what is odd about a field. Its heap."""
    key, value = split(entry)
    name, heap = classify(key)
    if not is_field_value(value.decode("latin-1")):
        fields.malformed = name
    if heap == SPOOFED:
        fields.spoofed.append(name)
    return heap


def _read(entry: bytes) -> _Read:
    key, value = split(entry)
    name, heap = classify(key)
    text = value.decode("latin-1")
    if heap == SPOOFED or not is_field_value(text):
        return name, _ODD, text
    read = (name, heap, text)
    if len(entry) <= _LONGEST_REMEMBERED and (name in _REMEMBERED or name.startswith(_REMEMBERED_PREFIX)):
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[entry] = read
    return read


def split(entry: bytes) -> tuple[str, bytes]:
    """Key and value. Mostly it is the one, then the other, and neither is long; else protobuf reads it."""
    size = len(entry)
    if size > 4 and entry[0] == _KEY:
        behind = 2 + entry[1]  # of a key above 127 bytes this is no place of a tag: the lengths do not fit
        if behind + 2 <= size and entry[1] < 0x80:
            tag, length, begin = entry[behind], entry[behind + 1], behind + 2
            if length >= 0x80 and begin < size:
                length += (entry[begin] - 1) << 7
                begin = begin + 1 if entry[begin] < 0x80 else size + 1
            key = entry[2:behind]
            if begin + length == size and key.isascii() and tag in (_RAW_VALUE, _VALUE):
                value = entry[begin:]
                if tag == _RAW_VALUE or value.isascii():
                    return key.decode("ascii"), value
    read = Entry.FromString(entry)
    return read.key, read.raw_value or read.value.encode()
