"""The rules of the protos (protovalidate) in JSON Schema, as far as it has them.

What it has no keyword for, such as a rule on several fields, is left to the descriptions.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from authsvc.model.errors import InvalidArgument
from authsvc.rpc import protos
from authsvc.rpc.validation import validator

Schema = dict[str, Any]

_KEYWORDS = {
    "string.min_len": "minLength",
    "string.max_len": "maxLength",
    "string.in": "enum",
    "int32.gte": "minimum",
    "int32.lte": "maximum",
    "int32.gt": "exclusiveMinimum",
    "int32.lt": "exclusiveMaximum",
    "repeated.min_items": "minItems",
    "repeated.max_items": "maxItems",
    "repeated.unique": "uniqueItems",
    "map.min_pairs": "minProperties",
    "map.max_pairs": "maxProperties",
}
# buf.validate.Ignore.IGNORE_IF_ZERO_VALUE.
_UNLESS_EMPTY = 1
# In a rule of rules.proto. A pattern with a backslash may mean something else in JavaScript.
_LENGTH = re.compile(r"this\.size\(\) <= (\d+)")
_PATTERN = re.compile(r"this\.matches\('(\^[^'\\]*\$)'\)")


def keywords(rules: Mapping[str, Any], before: str = "") -> Schema:
    """Return the keywords for the rules whose paths begin with `before`, such as `repeated.items.`."""
    found: Schema = {}
    for path, value in rules.items():
        name = path.removeprefix(before) if path.startswith(before) else ""
        if name in _KEYWORDS:
            found[_KEYWORDS[name]] = value if isinstance(value, int | str) else list(value)
        elif name.startswith("string.") and name.endswith("_rule"):
            found |= _shared(name.removeprefix("string."))
    if not before and rules.get("ignore") == _UNLESS_EMPTY:
        _allow_empty(found)
    return found


def excluded_numbers(rules: Mapping[str, Any], before: str = "") -> list[int]:
    """Return the numbers of an enum that a value must not have."""
    return list(rules.get(f"{before}enum.not_in", ()))


def required_fields(descriptor: Descriptor) -> list[str]:
    """Return the names of the fields that a message has to have: those for which an empty one is refused."""
    try:
        validator(descriptor)(GetMessageClass(descriptor)())
    except InvalidArgument as error:
        return [violation.field for violation in error.violations if violation.field]
    return []


def joint_rules(descriptor: Descriptor) -> list[str]:
    """Return what the rules on several fields of a message say."""
    found = _options("MessageOptions", "buf.validate.message", descriptor)
    return [rule.message for rule in found.cel]


@cache
def _shared(name: str) -> Schema:
    """Return the keywords for a rule of rules.proto."""
    rule = _options(
        "FieldOptions", "buf.validate.predefined", _pool().FindExtensionByName(f"authsvc.v1.{name}")
    )
    (expression,) = [each.expression for each in rule.cel]
    found: Schema = {}
    if length := _LENGTH.search(expression):
        found["maxLength"] = int(length[1])
    if pattern := _PATTERN.search(expression):
        found["pattern"] = pattern[1]
    return found


def _allow_empty(found: Schema) -> None:
    if "pattern" in found:
        found["pattern"] = f"^$|{found['pattern']}"
    if "enum" in found:
        found["enum"] = ["", *found["enum"]]
    found.pop("minLength", None)


def _options(kind: str, extension: str, described: Any) -> Any:
    """Return an option of protovalidate, which generated code does not know."""
    options = GetMessageClass(_pool().FindMessageTypeByName(f"google.protobuf.{kind}"))
    found: Any = options.FromString(described.GetOptions().SerializeToString())
    return found.Extensions[_pool().FindExtensionByName(extension)]


@cache
def _pool() -> Any:
    return protos.pool(protos.read())
