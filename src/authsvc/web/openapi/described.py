"""What the protos say of the API: their services with their messages, and the comments on both."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from authsvc.rpc import protos
from authsvc.v1 import options_pb2

#: The package of the API, with a dot after it.
PACKAGE = "authsvc.v1."
# The lists of a FileDescriptorProto and of the messages in them, by the numbers that paths are made of.
_LISTS: Mapping[str, Mapping[int, str]] = {
    "FileDescriptorProto": {4: "message_type", 5: "enum_type", 6: "service"},
    "DescriptorProto": {2: "field", 3: "nested_type", 4: "enum_type", 8: "oneof_decl"},
    "EnumDescriptorProto": {2: "value"},
    "ServiceDescriptorProto": {2: "method"},
}


def services() -> list[tuple[ServiceDescriptor, list[MethodDescriptor]]]:
    """Return all services with their RPCs that are no streams, those without such RPCs left out."""
    found = []
    for file in protos.read().file:
        if not file.service or not file.name.startswith("authsvc/"):
            continue
        module = import_module(f"{file.name.removesuffix('.proto').replace('/', '.')}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            unary = [
                method
                for method in service.methods
                if not (method.client_streaming or method.server_streaming)
            ]
            if unary:
                found.append((service, unary))
    return found


def required_scope(method: MethodDescriptor) -> str:
    """Return the scope that a caller of an RPC needs; "" if it is open to all."""
    scope: str = method.GetOptions().Extensions[options_pb2.required_scope]
    return scope


def comment(full_name: str) -> str:
    """Return the comment on something of the API; "" if it has none."""
    return _comments().get(full_name, "")


@cache
def _comments() -> Mapping[str, str]:
    return {name: text for file in protos.read().file for name, text in _of_file(file)}


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        if location.leading_comments and (name := _name(file, location.path)):
            yield f"{file.package}.{name}", _unfolded(location.leading_comments)


def _name(file: FileDescriptorProto, path: Sequence[int]) -> str:
    """Return the name of what a path leads to, without its package; "" if it is something else."""
    names, here = [], file
    for number, index in zip(path[::2], path[1::2], strict=False):
        lists = _LISTS.get(type(here).__name__, {})
        if number not in lists:
            return ""
        found: Any = getattr(here, lists[number])[index]
        here = found
        names.append(found.name)
    return ".".join(names) if len(path) % 2 == 0 else ""


def _unfolded(text: str) -> str:
    """Return a comment with one line for each paragraph; Markdown keeps lists and blocks apart."""
    paragraphs = "\n".join(line.strip() for line in text.strip().splitlines()).split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
