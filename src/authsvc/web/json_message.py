"""Messages as JSON, by the rules of Protocol Buffers ("ProtoJSON"): requests read, answers written.

A request may name its fields as the protos do (`owner_id`) or as answers do (`ownerId`). An unknown field is
refused, so that a misspelled one cannot be overlooked. Lists are counted before their items are looked at.

Bound: a request has at most `MAX_OBJECTS` objects, an import more, and a list or a map as many items as over
gRPC. Only what the protos know is looked at, so nothing is nested deeper than there. A large message is read
and written in slices, between which other tasks run.

Failure: InvalidArgument, which names the field and never repeats a value: it may be a key string.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.key_string import redact
from authsvc.rpc.request import refuse_longer

#: Objects in one request. A batch of verifications has 101.
MAX_OBJECTS = 2000
# Those of requests that may have more, and what these have so many of. A thousand keys with annotations are
# two thousand, and each contact and each rate limit is one more.
_MORE_OBJECTS = {"authsvc.v1.ImportKeysRequest": (10_000, "keys")}
# Names of unknown fields that an error shows.
_SHOWN_NAME = re.compile(r"[!-~]{1,64}")
# The bytes of a message that is read or written at once, and the items of a larger one.
_SLICE_BYTES, _SLICE_ITEMS = 16 * 1024, 25
# What values have to be, by the type of a field, and by that of its message.
_OF_TYPES: Mapping[int, str] = {
    FieldDescriptor.TYPE_STRING: "must be a string of Unicode characters",
    FieldDescriptor.TYPE_BYTES: "must be a string in base64",
    FieldDescriptor.TYPE_BOOL: "must be true or false",
    FieldDescriptor.TYPE_INT32: "must be a whole number of 32 bits",
    FieldDescriptor.TYPE_UINT32: "must be a whole number of 32 bits without a sign",
    FieldDescriptor.TYPE_INT64: "must be a whole number of 64 bits",
}
_OF_MESSAGES = {
    "google.protobuf.Timestamp": 'must be an instant such as "2026-11-27T12:00:00Z"',
    "google.protobuf.Duration": 'must be a number of seconds such as "3600s"',
    "google.protobuf.FieldMask": 'must name fields, separated by commas, such as "displayName,scopes"',
}
# What json_format raises: also for texts with lone surrogates, and for numbers that are too large.
_FAULTS = (ParseError, ValueError, TypeError, OverflowError, AttributeError)


class _TooManyError(ValueError):
    pass


class _DuplicateError(ValueError):
    pass


def parse(data: bytes, request_type: type[Message]) -> Message:
    """Return the request that a body in JSON holds; raise InvalidArgument."""
    return _parsed(_checked(data, request_type), request_type)


async def read(data: bytes, request_type: type[Message]) -> Message:
    """Return the same as `parse`; other tasks run while the lists of a large request are read."""
    if len(data) <= _SLICE_BYTES:
        return parse(data, request_type)
    found, fields = _checked(data, request_type), _fields(cast("Descriptor", request_type.DESCRIPTOR))
    lists = {
        name: value for name, value in found.items() if isinstance(value, list) and fields[name].is_repeated
    }
    request = _parsed({name: value for name, value in found.items() if name not in lists}, request_type)
    for name, items in lists.items():
        for first in range(0, len(items), _SLICE_ITEMS):
            await asyncio.sleep(0)
            request.MergeFrom(_parsed({name: items[first : first + _SLICE_ITEMS]}, request_type, first))
    return request


async def write(message: Message) -> bytes:
    """Return a message as JSON; other tasks run while a large one is written."""
    if message.ByteSize() <= _SLICE_BYTES:
        return _dumped(MessageToDict(message)).encode()
    rest = type(message)()
    rest.CopyFrom(message)
    lists = [
        field for field, _ in message.ListFields() if _object_type(field) is not None and field.is_repeated
    ]
    for field in lists:
        rest.ClearField(field.name)
    members = [_dumped({name: value})[1:-1] for name, value in MessageToDict(rest).items()]
    for field in lists:
        items = await _written(getattr(message, field.name))
        members.append(f"{_dumped(field.json_name)}:[{','.join(items)}]")
    return f"{{{','.join(members)}}}".encode()


async def _written(messages: Any) -> list[str]:
    items, size = [], 0
    for message in messages:
        items.append(_dumped(MessageToDict(message)))
        size += len(items[-1])
        if len(items) % _SLICE_ITEMS == 0 or size > _SLICE_BYTES:
            size = 0
            await asyncio.sleep(0)
    return items


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _checked(data: bytes, request_type: type[Message]) -> dict[str, Any]:
    """Return the object in a body, whose names and lists are those of the request."""
    descriptor = cast("Descriptor", request_type.DESCRIPTOR)
    found: dict[str, Any] = _loaded(data, *_MORE_OBJECTS.get(descriptor.full_name, (MAX_OBJECTS, "items")))
    _check(found, descriptor, "")
    return found


def _parsed(found: dict[str, Any], request_type: type[Message], first: int = 0) -> Message:
    """Return the message in an object that was checked. Its lists begin with the item number `first`."""
    request, descriptor = request_type(), cast("Descriptor", request_type.DESCRIPTOR)
    try:
        ParseDict(found, request)
    except _FAULTS as error:
        raise _undecodable(*_culprit(found, descriptor, "", first)) from error
    return request


def _loaded(data: bytes, most: int, items: str) -> Any:
    """Return what a body holds, of at most `most` objects; it is told to have fewer `items`."""
    made = _objects(most)
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=made, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _undecodable("", "is not UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"{error.msg.removesuffix(' at')}, in line {error.lineno}, column {error.colno}"
        raise _undecodable(
            "", f"is not valid JSON: {where}" if data else "is empty; send {} at least"
        ) from error
    except _TooManyError as error:
        raise _undecodable("", f"has more than {most} objects; send fewer {items} at a time") from error
    except _DuplicateError as error:
        raise _undecodable("", "has an object with the same name twice") from error
    except RecursionError as error:
        raise _undecodable("", "is nested too deeply") from error
    except ValueError as error:
        raise _undecodable("", "has a number that is out of range") from error


def _objects(most: int) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Return what makes the objects of one request: it counts them, and refuses the same name twice."""
    count = 0

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal count
        count += 1
        if count > most:
            raise _TooManyError
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _DuplicateError
        return found

    return made


def _no_constant(_: str) -> Any:
    raise ValueError


def _check(value: Any, descriptor: Descriptor, path: str) -> None:
    """Refuse unknown fields, and lists that are far too long; write field masks as ProtoJSON has them."""
    if not isinstance(value, dict):
        raise _undecodable(path, "must be an object")
    fields, seen = _fields(descriptor), set()
    for name, inner in value.items():
        field = fields.get(name)
        if field is None:
            raise _unknown(name, path)
        if field.name in seen:
            raise _undecodable(path + field.name, f"is there twice, also as {field.json_name}")
        seen.add(field.name)
        if inner is not None:
            _check_field(value, name, field, path + field.name)


def _check_field(parent: dict[str, Any], name: str, field: FieldDescriptor, here: str) -> None:
    value, inner = parent[name], _object_type(field)
    if field.is_repeated:
        if not isinstance(value, dict if _is_map(field) else list):
            raise _undecodable(here, f"must be {'an object' if _is_map(field) else 'a list'}")
        refuse_longer(len(value), field, here)
        if inner is None:
            return
        for index, item in enumerate(value):
            _check(item, inner, f"{here}[{index}].")
    elif inner is not None:
        _check(value, inner, f"{here}.")
    elif isinstance(value, str) and _kind(field) == "google.protobuf.FieldMask":
        parent[name] = re.sub("_([a-z])", lambda found: found[1].upper(), value)


def _culprit(value: Mapping[str, Any], descriptor: Descriptor, path: str, first: int = 0) -> tuple[str, str]:
    """Return the path of a field that cannot be read, and what its value has to be.

    The lists in `value` begin with the item number `first`.
    """
    fields = _fields(descriptor)
    for name, value_of in value.items():
        field = fields[name]
        if _is_readable({name: value_of}, descriptor):
            continue
        here, inner = path + field.name, _object_type(field)
        if inner is not None:
            for index, item in enumerate(value_of if field.is_repeated else [value_of], first):
                if not _is_readable(item, inner):
                    place = f"[{index}]" if field.is_repeated else ""
                    return _culprit(item, inner, f"{here}{place}.")
        return here, _wanted(field)
    return path, "is not a valid message of its type"


def _is_readable(value: dict[str, Any], descriptor: Descriptor) -> bool:
    try:
        ParseDict(value, GetMessageClass(descriptor)())
    except _FAULTS:
        return False
    return True


def _wanted(field: FieldDescriptor) -> str:
    """Return what the value of a field has to be."""
    if field.enum_type is not None:
        wanted = f"must be one of {', '.join(value.name for value in field.enum_type.values)}"
    elif _is_map(field):
        wanted = _OF_TYPES[FieldDescriptor.TYPE_STRING]
    else:
        wanted = _OF_MESSAGES.get(_kind(field)) or _OF_TYPES.get(field.type, "must be a number in its range")
    return f"has an item that cannot be read; each {wanted}" if field.is_repeated else wanted


def _object_type(field: FieldDescriptor) -> Descriptor | None:
    """Return the type of the objects that a field holds; None for maps and for Google's own types."""
    found = field.message_type
    return None if found is None or _is_map(field) or _kind(field).startswith("google.protobuf.") else found


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _kind(field: FieldDescriptor) -> str:
    return "" if field.message_type is None else field.message_type.full_name


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    return {name: field for field in descriptor.fields for name in (field.name, field.json_name)}


def _unknown(name: str, path: str) -> InvalidArgument:
    shown = _SHOWN_NAME.fullmatch(name) and redact(name) == name
    field = f"{path}{name}" if shown else path.rstrip(".")
    problem = "is not a field of this request" if shown else "has a field that requests of this kind have not"
    return InvalidArgument(FieldViolation(field, "request.known_field", problem))


def _undecodable(path: str, problem: str) -> InvalidArgument:
    return InvalidArgument(FieldViolation(path.rstrip("."), "request.decodable", problem))
