"""The request of a call: its message read, without key strings where none belong, and held against the rules.

Bound: messages of management calls have 128 KiB, and lists 100 items, which is looked at before the items.
"""

from collections.abc import Callable

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.key_string import redact
from authsvc.rpc.validation import validator

# All fields of a management call at their longest; a client may verify larger rubbish than that.
_MAX_BYTES = 128 * 1024
# Fields that tell of a user's device, of a text or of texts. They fail no sign-in, whatever they hold.
_ONLY_SHOWN = frozenset({"user_agent", "client_hints"})
# The longest list that any field takes, and how small a message cannot hold one that takes long to check.
_MAX_ITEMS = 100
_MANY = 1024


def parser(method: MethodDescriptor) -> Callable[[bytes], Message]:
    """Return what reads the requests of an RPC; it raises InvalidArgument for bad ones."""
    request_type = GetMessageClass(method.input_type)
    takes_key_string = not {"key_string", "session_token", "requests"}.isdisjoint(
        method.input_type.fields_by_name
    )
    check = validator(method.input_type)
    return lambda data: _parse(request_type, data, check, takes_key_string)


def _parse(
    request_type: type[Message], data: bytes, check: Callable[[Message], None], takes_key_string: bool
) -> Message:
    if not takes_key_string and len(data) > _MAX_BYTES:
        problem = f"has {len(data)} bytes; none of this kind needs more than {_MAX_BYTES}"
        raise InvalidArgument(FieldViolation("", "request.size", problem))
    try:
        request = request_type.FromString(data)
    except DecodeError as error:
        problem = "is no protobuf message of this type, or holds text that is not UTF-8"
        raise InvalidArgument(FieldViolation("", "request.decodable", problem)) from error
    # Before any error that could repeat it.
    if not takes_key_string and _holds_key_string(data) and not _cut_out(request):
        problem = "a key string stands where none belongs; leave it out, and revoke that key if others saw it"
        raise InvalidArgument(FieldViolation("", "request.no_key_string", problem))
    if len(data) > _MANY:
        _refuse_too_many(request)
    check(request)
    return request


def _holds_key_string(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    return redact(text) != text


def _cut_out(request: Message) -> bool:
    """Cut key strings in what is only shown down to their prefixes; say whether none is left elsewhere."""
    for field, value in request.ListFields():
        if field.name in _ONLY_SHOWN:
            if field.message_type is None:
                setattr(request, field.name, redact(value))
            else:
                for inner, text in value.ListFields():
                    setattr(value, inner.name, redact(text))
    return not _holds_key_string(request.SerializeToString())


def _refuse_too_many(message: Message, path: str = "") -> None:
    """Refuse lists that are far too long before each of their items is looked at."""
    for field, value in message.ListFields():
        here = f"{path}{field.name}"
        if field.is_repeated and len(value) > _MAX_ITEMS:
            problem = f"has {len(value)} items; no list takes more than {_MAX_ITEMS}"
            raise InvalidArgument(FieldViolation(here, "repeated.max_items", problem))
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for index, child in enumerate(value) if field.is_repeated else ((None, value),):
            _refuse_too_many(child, f"{here}." if index is None else f"{here}[{index}].")
