"""Rules for values that hold in all requests, beyond the rules in the protos.

Mechanism: a plan for each type of message is made once. It says which fields are texts for people (the option
`text`), which are durations or timestamps, and which fields lead to such fields.

Bound: types without such fields, such as those of verifications, cost next to nothing. All others take time
linear in the length of the message.
"""

from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.model.errors import FieldViolation
from authsvc.model.key_string import redact
from authsvc.model.mail_address import mail_fault
from authsvc.model.text import Form, fault, folded, is_stream_safe, kept
from authsvc.v1 import options_pb2

# google/protobuf/duration.proto and timestamp.proto: 10,000 years, and the years 1 to 9999.
_MAX_SECONDS = 315_576_000_000
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_MAX_NANOS = 999_999_999


class _Kind(NamedTuple):
    """A kind of text: its rule, the form in which it is kept, and the function that finds what is wrong."""

    rule: str
    form: Form
    fault: Callable[[str], str]


_KINDS = {
    options_pb2.TEXT_KIND_LINE: _Kind("text.line", Form.LINE, fault),
    options_pb2.TEXT_KIND_PARAGRAPHS: _Kind(
        "text.paragraphs", Form.PARAGRAPHS, lambda text: fault(text, Form.PARAGRAPHS)
    ),
    options_pb2.TEXT_KIND_QUERY: _Kind("text.query", Form.LINE, lambda _: ""),
    options_pb2.TEXT_KIND_MAIL_ADDRESS: _Kind("text.mail_address", Form.LINE, mail_fault),
}


class _Plan(NamedTuple):
    """Which fields of a message to look at."""

    texts: tuple[tuple[FieldDescriptor, _Kind], ...]
    moments: tuple[FieldDescriptor, ...]
    children: tuple[FieldDescriptor, ...]

    @property
    def with_texts(self) -> Iterator[FieldDescriptor]:
        yield from (field for field, _ in self.texts)
        yield from self.children


_NOTHING = _Plan((), (), ())


def has_values(descriptor: Descriptor) -> bool:
    """Return whether messages of this type can hold values to check."""
    return _plan(descriptor) is not _NOTHING


def keep_values(request: Message, ignored: Collection[str]) -> list[FieldViolation]:
    """Put the texts of a request into the form in which they are kept; return the violations.

    Texts in the fields that are `ignored`, by their paths, stay as they are.
    """
    return [*_keep_texts(request, "", ignored), *_moment_violations(request, "")]


def unnamed_texts(request: Message) -> frozenset[str]:
    """Return the paths of the fields with texts that a request's `update_mask` does not name.

    They are not written. An earlier release may have accepted them, and they come back with a change of
    another field.
    """
    mask = getattr(request, "update_mask", None)
    if not isinstance(mask, FieldMask) or "*" in mask.paths:
        return frozenset()
    return frozenset(
        f"{child.name}.{field.name}"
        for child in _plan(request.DESCRIPTOR).children
        for field in _plan(child.message_type).with_texts
        if field.name not in mask.paths
    )


def _keep_texts(message: Message, path: str, ignored: Collection[str]) -> Iterator[FieldViolation]:
    plan = _plan(message.DESCRIPTOR)
    for field, kind in plan.texts:
        here, value = path + field.name, getattr(message, field.name)
        if here in ignored:
            continue
        if not field.is_repeated:
            text = kept(value, kind.form)
            if text != value:
                setattr(message, field.name, text)
            yield from _secret(here, text)
            yield from _fault(here, kind, text)
            continue
        for place in list(value) if _is_map(field) else range(len(value)):
            there, text = f"{here}[{place!r}]", kept(value[place], kind.form)
            if text != value[place]:
                value[place] = text
            yield from _secret(there, text)
            yield from _fault(there, kind, text)
    for field in plan.children:
        if path + field.name not in ignored:
            for here, child in _children(message, field, path):
                yield from _keep_texts(child, f"{here}.", ignored)


def _secret(path: str, text: str) -> Iterator[FieldViolation]:
    """Refuse a text that is a key string once it is normalized: U+212A, for instance, becomes the letter K.

    The same goes for the secrets of webhooks.

    Names are also kept in the form for searching, where full-width letters become ordinary ones.
    """
    forms = (text, folded(text)) if is_stream_safe(text) else (text,)
    if any(redact(form) != form for form in forms):
        problem = "contains a key string, which this field does not allow; remove it"
        yield FieldViolation(path, "request.no_key_string", problem)


def _fault(path: str, kind: _Kind, text: str) -> Iterator[FieldViolation]:
    if problem := kind.fault(text):
        yield FieldViolation(path, kind.rule, problem)


def _moment_violations(message: Message, path: str) -> Iterator[FieldViolation]:
    plan = _plan(message.DESCRIPTOR)
    for field in plan.moments:
        for here, moment in _children(message, field, path):
            rule, problem = _duration(moment) if isinstance(moment, Duration) else _instant(moment)
            if problem:
                yield FieldViolation(here, rule, problem)
    for field in plan.children:
        for here, child in _children(message, field, path):
            yield from _moment_violations(child, f"{here}.")


def _duration(length: Duration) -> tuple[str, str]:
    problem = ""
    if abs(length.seconds) > _MAX_SECONDS:
        problem = f"is beyond 10,000 years; use at most {_MAX_SECONDS} seconds"
    elif abs(length.nanos) > _MAX_NANOS:
        problem = "has nanos of a second or more; add whole seconds to seconds"
    elif length.seconds * length.nanos < 0:
        problem = "has seconds and nanos of different signs; use the same sign in both"
    return "duration.valid", problem


def _instant(moment: Any) -> tuple[str, str]:
    problem = ""
    if not _FIRST_SECOND <= moment.seconds <= _LAST_SECOND:
        problem = "is not between the years 1 and 9999"
    elif not 0 <= moment.nanos <= _MAX_NANOS:
        problem = "has nanos out of range; use 0 to 999999999"
    return "timestamp.valid", problem


def _children(message: Message, field: FieldDescriptor, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the messages that a field holds, with their paths."""
    here = path + field.name
    if not field.is_repeated:
        if message.HasField(field.name):
            yield here, getattr(message, field.name)
        return
    value = getattr(message, field.name)
    for place in value if _is_map(field) else range(len(value)):
        yield f"{here}[{place!r}]", value[place]


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    texts, moments, children = [], [], []
    for field in descriptor.fields:
        if kind := field.GetOptions().Extensions[options_pb2.text]:
            texts.append((field, _KINDS[kind]))
            continue
        held = field.message_type
        if held is not None and _is_map(field):
            held = held.fields_by_name["value"].message_type
        if held in (Duration.DESCRIPTOR, Timestamp.DESCRIPTOR):
            moments.append(field)
        elif held is not None and _has_any(held, frozenset()):
            children.append(field)
    plan = _Plan(tuple(texts), tuple(moments), tuple(children))
    return plan if any(plan) else _NOTHING


def _has_any(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    """Return whether a message of this type can hold a field to check, at any depth."""
    if descriptor in (Duration.DESCRIPTOR, Timestamp.DESCRIPTOR):
        return True
    if descriptor.full_name in seen:
        return False
    seen |= {descriptor.full_name}
    return any(
        field.GetOptions().Extensions[options_pb2.text]
        or (field.message_type is not None and _has_any(field.message_type, seen))
        for field in descriptor.fields
    )


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
