"""The request of a call: its message is read, refused with a key string in the wrong field, and validated.

Bound: a message of a management call has at most 128 KiB, that of an import 1 MiB; a list has at most 100
items, that of leaked keys and of imported ones 1,000. Lists are counted before their items are looked at.
"""

from collections.abc import Callable
from functools import partial

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.key_string import redact
from authsvc.rpc.validation import validator

# All fields of a management call at their longest. A verification may hold a longer text, which is then
# unknown.
_MAX_BYTES = 128 * 1024
# Fields that describe a user's device. A sign-in does not fail for what they hold.
_ONLY_SHOWN = frozenset({"user_agent", "client_hints"})
# The longest list that any field takes, and the bytes below which a message cannot hold a list worth
# counting.
_MAX_ITEMS = 100
# The lists that may be longer.
_LONGER_LISTS = {
    "authsvc.v1.ReportLeakedKeysRequest.leaks": 1000,
    "authsvc.v1.ImportKeysRequest.keys": 1000,
}
# The messages that may be longer.
_LONGER_MESSAGES = {"authsvc.v1.ImportKeysRequest": 1024 * 1024}
# The lists each of whose items is validated by the service, so that one does not refuse the others.
_SINGLY = {"authsvc.v1.ImportKeysRequest": "keys"}
_MIN_COUNTED_BYTES = 1024


def parser(method: MethodDescriptor) -> Callable[[bytes], Message]:
    """Return the function that reads requests of an RPC; it raises InvalidArgument."""
    request_type = GetMessageClass(method.input_type)
    takes_key_string = not {"key_string", "session_token", "token", "requests", "leaks"}.isdisjoint(
        method.input_type.fields_by_name
    )
    check = validator(method.input_type)
    if (singly := _SINGLY.get(method.input_type.full_name)) is not None:
        check = partial(_check_without, singly, check)
    return partial(_parse, request_type, check, takes_key_string)


def _parse(
    request_type: type[Message], check: Callable[[Message], None], takes_key_string: bool, data: bytes
) -> Message:
    max_bytes = _LONGER_MESSAGES.get(request_type.DESCRIPTOR.full_name, _MAX_BYTES)
    if not takes_key_string and len(data) > max_bytes:
        problem = f"has {len(data)} bytes; a request of this kind needs at most {max_bytes}"
        raise InvalidArgument(FieldViolation("", "request.size", problem))
    try:
        request = request_type.FromString(data)
    except DecodeError as error:
        problem = "is not a valid protobuf message of this type, or holds text that is not UTF-8"
        raise InvalidArgument(FieldViolation("", "request.decodable", problem)) from error
    # Before any error that could repeat it.
    if not takes_key_string and _holds_key_string(data) and not _cut_out(request):
        raise InvalidArgument(_secret(request))
    if len(data) > _MIN_COUNTED_BYTES:
        _refuse_too_many(request)
    check(request)
    return request


def _check_without(name: str, check: Callable[[Message], None], request: Message) -> None:
    """Validate a request except for the items of a list."""
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField(name)
    check(rest)


def _secret(request: Message) -> FieldViolation:
    rule = "request.no_key_string"
    seal_to = getattr(request, "seal_to", "")
    if redact(seal_to) != seal_to:
        problem = (
            "contains a secret; send the public key, the line age1… that age-keygen prints, and replace the "
            "secret if others saw it"
        )
        return FieldViolation("seal_to", rule, problem)
    problem = (
        "contains a key string, a token, an identity of age or the secret of a webhook, which this field "
        "does not allow; remove it, and revoke the key, or replace the secret, if others saw it"
    )
    return FieldViolation("", rule, problem)


def _holds_key_string(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    return redact(text) != text


def _cut_out(request: Message) -> bool:
    """Cut key strings in device fields down to their prefixes; return whether no other field holds one."""
    for field, value in request.ListFields():
        if field.name in _ONLY_SHOWN:
            if field.message_type is None:
                setattr(request, field.name, redact(value))
            else:
                for inner, text in value.ListFields():
                    setattr(value, inner.name, redact(text))
    return not _holds_key_string(request.SerializeToString())


def _refuse_too_many(message: Message, path: str = "") -> None:
    """Refuse lists that are far too long before their items are looked at."""
    for field, value in message.ListFields():
        here = f"{path}{field.name}"
        if field.is_repeated:
            refuse_longer(len(value), field, here)
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for index, child in enumerate(value) if field.is_repeated else ((None, value),):
            _refuse_too_many(child, f"{here}." if index is None else f"{here}[{index}].")


def refuse_longer(length: int, field: FieldDescriptor, path: str) -> None:
    """Raise InvalidArgument for a list of more items than any field takes."""
    most = _LONGER_LISTS.get(field.full_name, _MAX_ITEMS)
    if length > most:
        problem = f"has {length} items; the maximum is {most}"
        raise InvalidArgument(FieldViolation(path, "repeated.max_items", problem))
