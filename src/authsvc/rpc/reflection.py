"""Server reflection with the comments of the protos, which generated code does not keep.

It is served as v1, for newer clients, and as v1alpha, for older ones. Their messages are the same on the
wire, and `grpcio-reflection` has only those of v1alpha.

No credential is needed. The description of a file is built once and kept, so an answer costs little more than
sending it. The number of files is fixed.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha._base import BaseReflectionServicer

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.rpc import protos
from authsvc.rpc.public import Public, PublicCall, Streams
from authsvc.rpc.rpc import Rpc

# The names of the service.
SERVICES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
_V1_FILE = "grpc/reflection/v1/reflection.proto"
_MAX_STREAMS, _STREAMS_OF_ONE = 32, 4
_MAX_QUESTIONS = 1000


class Reflection(BaseReflectionServicer):  # type: ignore[misc]  # it comes without types
    """Describes some services."""

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__((*services, *SERVICES), pool=CommentedPool())
        self.streams = Streams("reflection", max_open=_MAX_STREAMS, max_per_connection=_STREAMS_OF_ONE)
        self._of_file: dict[str, bytes] = {}

    def rpcs(self, public: Public) -> list[Rpc]:
        """Return an RPC for each name of the service. Their streams are bounded together."""
        handle = public.stream(self._serve, self.streams)
        return [Rpc(f"/{name}/ServerReflectionInfo", handle, writes=True) for name in SERVICES]

    async def _serve(self, call: PublicCall) -> None:
        for _ in range(_MAX_QUESTIONS):
            if (data := await call.next()) is None:
                return
            await call.write(self.answer(data))

    def answer(self, data: bytes) -> bytes:
        """Return the answer to a request, both serialized; raise InvalidArgument for an invalid request."""
        try:
            asked = reflection_pb2.ServerReflectionRequest.FromString(data)
        except DecodeError as error:
            problem = "is not a valid ServerReflectionRequest"
            raise InvalidArgument(FieldViolation("", "request.decodable", problem)) from error
        # Fields of a message may come in any order, and a submessage in several pieces.
        repeated = reflection_pb2.ServerReflectionResponse(original_request=asked).SerializeToString()
        told: bytes
        match asked.WhichOneof("message_request"):
            case "file_by_filename":
                told = self._file(self._pool.FindFileByName, asked.file_by_filename)
            case "file_containing_symbol":
                told = self._file(self._pool.FindFileContainingSymbol, asked.file_containing_symbol)
            case "file_containing_extension":
                extension = asked.file_containing_extension
                told = self._file_containing_extension(
                    None, extension.containing_type, extension.extension_number
                ).SerializeToString()
            case "all_extension_numbers_of_type":
                told = self._all_extension_numbers_of_type(
                    None, asked.all_extension_numbers_of_type
                ).SerializeToString()
            case "list_services":
                told = self._list_services(None).SerializeToString()
            case _:
                told = _error(grpc.StatusCode.INVALID_ARGUMENT)
        answer: bytes = repeated + told
        return answer

    def _file(self, find: Any, name: str) -> bytes:
        try:
            found = find(name)
        except KeyError:
            return _error(grpc.StatusCode.NOT_FOUND)
        if (told := self._of_file.get(found.name)) is None:
            told = self._file_by_filename(None, found.name).SerializeToString()
            self._of_file[found.name] = told
        return told


def _error(code: grpc.StatusCode) -> bytes:
    number, text = code.value
    error = reflection_pb2.ErrorResponse(error_code=number, error_message=text)
    told: bytes = reflection_pb2.ServerReflectionResponse(error_response=error).SerializeToString()
    return told


def _add_v1(pool: descriptor_pool.DescriptorPool) -> None:
    """Add the description of v1, which is that of v1alpha with other names."""
    alpha = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    renamed = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    file = text_format.Parse(renamed, FileDescriptorProto())
    file.name = _V1_FILE
    file.options.ClearField("deprecated")
    pool.AddSerializedFile(file.SerializeToString())


class CommentedPool:
    """A descriptor pool in which our files have their comments.

    Has the methods that `grpc_reflection` calls, and passes on the rest.
    """

    def __init__(self) -> None:
        described = protos.read()
        self._pool = protos.pool(described)
        # Details of errors are sent as Any, and clients ask for their types.
        for module in (health_pb2, reflection_pb2, error_details_pb2):
            self._pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        _add_v1(self._pool)
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
            # The pool does not find RPCs and fields by name, so find the service or message.
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
