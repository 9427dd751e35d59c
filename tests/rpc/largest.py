"""The largest messages that the rules of the protos allow, in bytes."""

from math import inf

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClassesForFiles

from authsvc.rpc import protos

_DESCRIBED = protos.read()
_POOL = protos.pool(_DESCRIBED)
GetMessageClassesForFiles([file.name for file in _DESCRIBED.file], _POOL)
_FIELD_RULES = _POOL.FindExtensionByName("buf.validate.field")
_OPTIONS = _POOL.FindMessageTypeByName("google.protobuf.FieldOptions")
# Bytes of a character in UTF-8, and of the tag and length of a field.
_CHARACTER, _FRAME = 4, 6
# Of texts by the rules in rules.proto; the first three are in ASCII.
_RULES = {
    "identifier_rule": 64,
    "owner_rule": 128,
    "scope_rule": 64,
    "annotation_rule": 63,
    "brand_rule": 10,
    "age_recipient_rule": 62,
    "name_rule": 255 * _CHARACTER,
}


def methods() -> list[MethodDescriptor]:
    """Return all RPCs of the API."""
    return [
        method
        for file in _DESCRIBED.file
        if file.package == "authsvc.v1"
        for service in file.service
        for method in _POOL.FindServiceByName(f"{file.package}.{service.name}").methods
    ]


class Sizes:
    """Adds up the longest values of all fields.

    `values` are bytes of texts and numbers of items that no rule bounds, by the name of the field
    (`Key.creator_id`; `AuditEvent.details.key` of a map). `like` names, for a field, another one whose rules
    apply to it. `whole` has the bytes that all items of a field take together.
    """

    def __init__(self, values: dict[str, int], like: dict[str, str], whole: dict[str, int]) -> None:
        self._values, self._like, self._whole = values, like, whole
        #: The fields that were looked at.
        self.seen: set[str] = set()

    def message(self, descriptor: Descriptor) -> float:
        """Return the bytes of the largest message of a type; infinity if a field has no bound."""
        return sum(self.field(field) for field in descriptor.fields)

    def unbounded(self, descriptor: Descriptor) -> list[str]:
        """Return the fields of a type that have no bound, at any depth."""
        found = []
        for field in descriptor.fields:
            if self.field(field) < inf:
                continue
            below = self.unbounded(field.message_type) if field.message_type is not None else []
            found += below or [name_of(field)]
        return found

    def field(self, field: FieldDescriptor) -> float:
        """Return the bytes of the largest value of a field."""
        name = name_of(field)
        self.seen.add(name)
        if name in self._whole:
            return self._whole[name]
        rules = _rules(field_of(self._like[name]) if name in self._like else field)
        if not field.is_repeated:
            return _FRAME + self._one(field, rules, self._values.get(name))
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            count = rules.map.max_pairs or self._values.get(name) or inf
            key, value = field.message_type.fields
            self.seen |= {f"{name}.key", f"{name}.value"}
            pair = self._one(key, rules.map.keys, self._values.get(f"{name}.key"))
            pair += self._one(value, rules.map.values, self._values.get(f"{name}.value"))
            return count * (3 * _FRAME + pair)
        count = rules.repeated.max_items or self._values.get(name) or inf
        return count * (_FRAME + self._one(field, rules.repeated.items, None))

    def _one(self, field: FieldDescriptor, rules: object, value: int | None) -> float:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            return 1 if field.type == FieldDescriptor.TYPE_BOOL else 10
        return _text(rules) if value is None else value


def name_of(field: FieldDescriptor) -> str:
    assert field.containing_type is not None
    return f"{field.containing_type.name}.{field.name}"


def field_of(name: str) -> FieldDescriptor:
    message, _, field = name.partition(".")
    return _POOL.FindMessageTypeByName(f"authsvc.v1.{message}").fields_by_name[field]


def _rules(field: FieldDescriptor):  # type: ignore[no-untyped-def]  # a message that only the pool knows
    """Return the rules of a field as buf.validate.FieldRules of the pool."""
    options = GetMessageClassesForFiles(["google/protobuf/descriptor.proto"], _POOL)[_OPTIONS.full_name]
    return options.FromString(field.GetOptions().SerializeToString()).Extensions[_FIELD_RULES]  # type: ignore[index]


def _text(rules) -> float:  # type: ignore[no-untyped-def]
    """Return the bytes of the longest text that rules allow."""
    told = rules.string
    bounds = [
        size
        for name, size in _RULES.items()
        if told.Extensions[_POOL.FindExtensionByName(f"authsvc.v1.{name}")]
    ]
    if told.HasField("max_len"):
        bounds.append(told.max_len * _CHARACTER)
    if told.HasField("max_bytes"):
        bounds.append(told.max_bytes)
    return min(bounds, default=inf)
