"""The part of a CheckRequest that we look at, as messages of our own with the same field numbers.

A message that is declared as `bytes` has the same form on the wire (protobuf encoding, "Length-Delimited
Records"): so each header comes as one piece of bytes, and no message object is made of it. Making one costs
five times what parsing it does.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/attribute_context.proto
"""

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "authz.check"
_Field = tuple[str, int, str, bool]  # name, number, type, whether it is repeated

_MESSAGES: dict[str, tuple[_Field, ...]] = {
    "Check": (("attributes", 1, "Attributes", False),),
    "Attributes": (
        ("source", 1, "Peer", False),
        ("request", 4, "Request", False),
        ("context_extensions", 10, "bytes", True),
    ),
    "Peer": (("address", 1, "bytes", False), ("certificate", 5, "string", False)),
    "Address": (("socket_address", 1, "SocketAddress", False),),
    "SocketAddress": (("address", 2, "string", False),),
    "Request": (("http", 2, "Http", False),),
    "Http": (
        ("method", 2, "string", False),
        ("headers", 3, "bytes", True),
        ("path", 4, "string", False),
        ("host", 5, "string", False),
        ("scheme", 6, "string", False),
        ("protocol", 10, "string", False),
        ("body", 11, "string", False),
        ("raw_body", 12, "bytes", False),
        ("header_map", 13, "HeaderMap", False),
    ),
    "HeaderMap": (("headers", 1, "bytes", True),),
    "Entry": (("key", 1, "string", False), ("value", 2, "string", False), ("raw_value", 3, "bytes", False)),
}
_SCALARS = {"string": FieldDescriptorProto.TYPE_STRING, "bytes": FieldDescriptorProto.TYPE_BYTES}


def _described() -> FileDescriptorProto:
    file = FileDescriptorProto(name="authz/check.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = described.field.add(name=name, number=number)
            field.label = (
                FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            )
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
    return file


_pool = DescriptorPool()
_pool.Add(_described())


def _class(message: str) -> Any:
    return GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{message}"))


Check = _class("Check")
"""A CheckRequest."""

Address = _class("Address")
"""The address of a Peer."""

Entry = _class("Entry")
"""A HeaderValue (`key`, `value`, `raw_value`), or an entry of a map of strings (`key`, `value`)."""
