"""Messages as JSON Schema, in the form that Protocol Buffers have in JSON ("ProtoJSON").

Fields that have their default value are left out of answers, so no answer has to have any field but the id
that identifies it.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from authsvc.rpc.validation import rules_of
from authsvc.web.openapi import rules
from authsvc.web.openapi.described import PACKAGE, comment
from authsvc.web.openapi.rules import Schema

_TYPES: Mapping[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    # A string, since JavaScript has no integers of 64 bits.
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
}
_OF_PROTOBUF: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "examples": ["3600s"],
    },
    "google.protobuf.FieldMask": {"type": "string", "examples": ["displayName,scopes"]},
}
_OUTPUT_ONLY = "Output only."


def name_of(descriptor: Descriptor | EnumDescriptor) -> str:
    """Return the name of a message or an enum among the schemas."""
    name: str = descriptor.full_name
    return name.removeprefix(PACKAGE)


def reference(descriptor: Descriptor | EnumDescriptor) -> Schema:
    """Return the schema that refers to the one of a message or an enum."""
    return {"$ref": f"#/components/schemas/{name_of(descriptor)}"}


def schemas(descriptors: Iterator[Descriptor]) -> dict[str, Schema]:
    """Return the schemas of messages, and of all messages and enums in them, by name."""
    found: dict[str, Schema] = {}
    waiting: list[Descriptor | EnumDescriptor] = list(descriptors)
    while waiting:
        descriptor = waiting.pop()
        if (name := name_of(descriptor)) in found:
            continue
        if isinstance(descriptor, EnumDescriptor):
            found[name] = _enum(descriptor)
            continue
        found[name] = _message(descriptor)
        for field in descriptor.fields:
            waiting.extend(_held(field))
    return dict(sorted(found.items()))


def _held(field: FieldDescriptor) -> Iterator[Descriptor | EnumDescriptor]:
    if (value := _value_of_map(field)) is not None:
        yield from _held(value)
    elif field.enum_type is not None:
        yield field.enum_type
    elif field.message_type is not None and field.message_type.full_name not in _OF_PROTOBUF:
        yield field.message_type


def _message(descriptor: Descriptor) -> Schema:
    by_name = {field.name: field for field in descriptor.fields}
    schema: Schema = {
        "type": "object",
        "description": "\n\n".join(
            filter(None, [comment(descriptor.full_name), *map(_sentence, rules.joint_rules(descriptor))])
        ),
        "properties": {field.json_name: _field(field) for field in descriptor.fields},
    }
    if required := rules.required_fields(descriptor):
        schema["required"] = [by_name[name].json_name for name in required]
    if excluded := list(_together(descriptor)):
        schema["not"] = {"anyOf": excluded}
    return schema


def _together(descriptor: Descriptor) -> Iterator[Schema]:
    """Yield what a message must not have: two fields of one `oneof`."""
    for oneof in descriptor.oneofs:
        for pair in combinations([field.json_name for field in oneof.fields], 2):
            yield {"required": list(pair)}


def _enum(descriptor: EnumDescriptor) -> Schema:
    values = "\n".join(
        f"- `{value.name}`: {comment(f'{descriptor.full_name}.{value.name}')}" for value in descriptor.values
    )
    return {
        "type": "string",
        "description": f"{comment(descriptor.full_name)}\n\n{values}",
        "enum": [value.name for value in descriptor.values],
    }


def _field(field: FieldDescriptor) -> Schema:
    found, ruled = comment(field.full_name), rules_of(field)
    told = [found]
    if (oneof := field.containing_oneof) is not None and len(oneof.fields) > 1:
        others = " or ".join(f"`{other.json_name}`" for other in oneof.fields if other is not field)
        told = [f"{comment(oneof.full_name)} Not together with {others}.", found]
    schema = _shape(field, ruled)
    if text := "\n\n".join(filter(None, told)):
        schema["description"] = text
    if found.startswith(_OUTPUT_ONLY):
        schema["readOnly"] = True
    return schema


def _shape(field: FieldDescriptor, ruled: Mapping[str, Any]) -> Schema:
    if (value := _value_of_map(field)) is not None:
        schema: Schema = {
            "type": "object",
            "additionalProperties": _value(value, ruled, "map.values."),
        }
        if names := rules.keywords(ruled, "map.keys."):
            schema["propertyNames"] = names
        return schema | rules.keywords(ruled)
    if field.is_repeated:
        items = _value(field, ruled, "repeated.items.")
        return {"type": "array", "items": items} | rules.keywords(ruled)
    return _value(field, ruled, "")


def _value(field: FieldDescriptor, ruled: Mapping[str, Any], before: str) -> Schema:
    """Return the schema of a value, or of an item of a list or a map."""
    if field.enum_type is not None:
        schema = reference(field.enum_type)
        numbers = rules.excluded_numbers(ruled, before)
        if names := [field.enum_type.values_by_number[number].name for number in numbers]:
            schema["not"] = {"enum": names}
        return schema
    if field.message_type is not None:
        known = _OF_PROTOBUF.get(field.message_type.full_name)
        return reference(field.message_type) if known is None else dict(known)
    return _TYPES[field.type] | rules.keywords(ruled, before)


def _value_of_map(field: FieldDescriptor) -> FieldDescriptor | None:
    """Return the field with the values of a map; None for a field that is no map."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else None


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
