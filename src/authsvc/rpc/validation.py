"""Validation of requests: the rules of the protos (protovalidate), and the rules for all values.

Failure: only InvalidArgument, which names the fields. If a rule cannot be evaluated for a value, for instance
because of an overflow, that is an error of the client as well, and the error names the field with the value.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import protovalidate
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.rpc import protos
from authsvc.rpc.field_values import has_values, keep_values, unnamed_texts
from authsvc.v1 import key_service_pb2

_DESCRIBED = protos.pool(protos.read())


def _knowing_rules() -> protovalidate.Validator:
    """Return a validator that knows the rules in rules.proto, which generated code does not import.

    Raises protovalidate.CompilationError if it does not know them: a service without them must not start.
    """
    validator = protovalidate.Validator()
    described = _DESCRIBED.FindMessageTypeByName(key_service_pb2.GetKeyRequest.DESCRIPTOR.full_name)
    # It learns the rules in the files that the file of a message imports, and keeps them.
    for request in (GetMessageClass(described)(), key_service_pb2.GetKeyRequest()):
        validator.collect_violations(request)
    return validator


_VALIDATOR = _knowing_rules()


def validator(descriptor: Descriptor) -> Callable[[Message], None]:
    """Return the function that validates requests of a type and puts their texts into the form to keep.

    The function raises InvalidArgument.
    """
    if has_values(descriptor):
        return _validate
    try:
        limits = _only_lengths(_DESCRIBED.FindMessageTypeByName(descriptor.full_name))
    except KeyError:  # a type that is not of our protos
        limits = None
    return _validate_rules if limits is None else partial(_validate_lengths, limits)


def _only_lengths(descriptor: Descriptor) -> tuple[tuple[str, int], ...] | None:
    """Return the maximum lengths of a type's lists, by field; None if it has other rules, too.

    `descriptor` is that of the described protos, which have the rules.
    """
    if any(map(_is_choice, descriptor.oneofs)) or descriptor.has_options:
        return None
    limits = []
    for field in descriptor.fields:
        rules = rules_of(field)
        if field.message_type is not None and _only_lengths(field.message_type) != ():
            return None
        if set(rules) == {"repeated.max_items"}:
            limits.append((field.name, rules["repeated.max_items"]))
        elif rules:
            return None
    return tuple(limits)


def _is_choice(oneof: OneofDescriptor) -> bool:
    """Return whether a oneof was written as one. The compiler makes one of each `optional` field."""
    return [f"_{field.name}" for field in oneof.fields] != [oneof.name]


def rules_of(field: FieldDescriptor) -> dict[str, Any]:
    """Return the rules of a field by their paths in buf.validate.FieldRules, such as `string.max_len`."""
    options = GetMessageClass(_DESCRIBED.FindMessageTypeByName("google.protobuf.FieldOptions"))
    found = options.FromString(field.GetOptions().SerializeToString())
    extension: Any = _DESCRIBED.FindExtensionByName("buf.validate.field")
    return dict(_paths(found.Extensions[extension]))


def _paths(message: Message, before: str = "") -> Iterator[tuple[str, Any]]:
    for field, value in message.ListFields():
        if field.message_type is None or field.is_repeated:
            yield before + field.name, value
        else:
            yield from _paths(value, f"{before}{field.name}.")


def _validate_lengths(limits: Sequence[tuple[str, int]], request: Message) -> None:
    """Validate a request whose only rules are the maximum lengths of lists. The hot path."""
    for name, limit in limits:
        if len(getattr(request, name)) > limit:
            _validate_rules(request)


def _validate_rules(request: Message) -> None:
    """Validate a request that has no other values. The hot path."""
    if violations := _rule_violations(request):
        raise InvalidArgument(*violations)


def _validate(request: Message) -> None:
    ignored = unnamed_texts(request)
    # First: the rules apply to the texts as they are kept.
    found = keep_values(request, ignored)
    ruled = _rule_violations(request, is_refused=bool(found))
    ruled = [violation for violation in ruled if not _is_within(violation.field, ignored)]
    # A rule of the field itself is more specific.
    told = {violation.field for violation in ruled}
    if violations := [*ruled, *(violation for violation in found if violation.field not in told)]:
        raise InvalidArgument(*violations)


def _is_within(path: str, fields: Collection[str]) -> bool:
    return any(path == field or path.startswith((f"{field}[", f"{field}.")) for field in fields)


def _rule_violations(request: Message, *, is_refused: bool = False) -> list[FieldViolation]:
    """Return what is wrong with a request by the rules of its proto.

    If the request is refused anyway, the value that a rule cannot be evaluated for is not searched for.
    """
    try:
        violations = _VALIDATOR.collect_violations(request)
    except protovalidate.EvaluationError:
        return [] if is_refused else [_unevaluable(path) for path in _culprits(request)]
    return [_violation(violation.proto) for violation in violations]


def _unevaluable(path: str) -> FieldViolation:
    problem = "has a value for which its rules cannot be evaluated; use another value"
    return FieldViolation(path, "rule.evaluable", problem)


def _culprits(request: Message) -> list[str]:
    """Return the paths of values for which rules cannot be evaluated; "" if only several together fail."""
    return list(dict.fromkeys(_narrowed(request, ""))) or [""]


def _narrowed(message: Message, path: str) -> Iterator[str]:
    """Yield the deepest paths of fields that fail on their own."""
    for field, value in message.ListFields():
        here = path + field.name
        for place, item in _items(field, value):
            alone = type(message)()
            _put(alone, field, place, item)
            if not _is_trouble(alone):
                continue
            there = here if place is None else f"{here}[{place!r}]"
            is_message = isinstance(item, Message) and item.DESCRIPTOR.file.package != "google.protobuf"
            yield from (list(_narrowed(item, f"{there}.")) if is_message else []) or [there]


def _items(field: FieldDescriptor, value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a field holds: each item with its key or place, which is None for a field that holds one."""
    if not field.is_repeated:
        yield None, value
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        yield from value.items()
    else:
        yield from enumerate(value)


def _put(message: Message, field: FieldDescriptor, place: Any, item: Any) -> None:
    """Set a field to one item only."""
    if place is None and field.message_type is not None:
        getattr(message, field.name).CopyFrom(item)
    elif place is None:
        setattr(message, field.name, item)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        if isinstance(item, Message):
            getattr(message, field.name)[place].CopyFrom(item)
        else:
            getattr(message, field.name)[place] = item
    else:
        getattr(message, field.name).append(item)


def _is_trouble(message: Message) -> bool:
    try:
        _VALIDATOR.collect_violations(message)
    except protovalidate.EvaluationError:
        return True
    return False


def _violation(violation: Any) -> FieldViolation:
    """Return protovalidate's violation with its field as a path, for instance `requests[3].client_ip`."""
    path = ""
    for element in violation.field.elements if violation.field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        match element.subscript:
            case None:
                pass
            case subscript:
                path += (
                    f"[{subscript.value!r}]" if isinstance(subscript.value, str) else f"[{subscript.value}]"
                )
    return FieldViolation(path, violation.rule_id, violation.message)
