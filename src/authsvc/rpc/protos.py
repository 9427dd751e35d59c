"""The protos as they are written: with their comments, and with the rules for fields.

Generated code has no comments and does not import rules.proto and buf/validate/validate.proto, so that a
process can have another version of the latter: see docs/adr/0007-vendored-validate.md.
"""

from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool


def read() -> FileDescriptorSet:
    """Return the files of the API and all that they import, each after those that it imports."""
    return FileDescriptorSet.FromString((files("authsvc.v1") / "descriptors.binpb").read_bytes())


def pool(described: FileDescriptorSet) -> DescriptorPool:
    """Return a new pool of these files. Its messages are not those of generated code."""
    pool = DescriptorPool()
    for file in described.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool
