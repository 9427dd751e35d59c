"""Server reflection with the comments of the protos, which generated code does not keep."""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet


class CommentedPool:
    """A descriptor pool whose files of ours carry their comments.

    Has what `grpc_reflection` asks of a pool, and passes on the rest.
    """

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()
        described = FileDescriptorSet.FromString((files("authsvc.v1") / "descriptors.binpb").read_bytes())
        self._commented = {file.name: file for file in described.file}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileByName(self, name: str) -> "CommentedFile":
        """Return a file; raise KeyError for one that is not known."""
        return CommentedFile(self._pool.FindFileByName(name), self._commented)

    def FindFileContainingSymbol(self, symbol: str) -> "CommentedFile":
        """Return the file of a symbol; raise KeyError for one that is not known."""
        try:
            file = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            # The pool does not know an RPC or a field by name, but it knows where they stand.
            file = self._pool.FindFileContainingSymbol(symbol.rpartition(".")[0])
        return CommentedFile(file, self._commented)


class CommentedFile:
    """A file descriptor that copies itself with comments where we have them."""

    def __init__(self, file: FileDescriptor, commented: dict[str, FileDescriptorProto]) -> None:
        self._file = file
        self._commented = commented
        self.name = file.name

    @property
    def dependencies(self) -> list["CommentedFile"]:
        """The files that this one imports."""
        return [CommentedFile(file, self._commented) for file in self._file.dependencies]

    def CopyToProto(self, proto: FileDescriptorProto) -> None:
        """Fill `proto` with the description of this file."""
        if self.name in self._commented:
            proto.CopyFrom(self._commented[self.name])
        else:
            self._file.CopyToProto(proto)
