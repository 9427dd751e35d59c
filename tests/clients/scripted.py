"""The service of clients/vectors.json, which answers what the case under way says.

    python -m tests.clients.scripted [--service HOST:PORT --key-file FILE]

It serves gRPC in threads, in plain text on loopback, and HTTP for the control (tests/clients/control.py).
clients/README.md has the protocol.
"""

import argparse
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Envelope
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from authsvc.v1 import key_service_pb2, session_service_pb2
from tests.clients.calls import Calls
from tests.clients.control import Control, real_service

#: The cases.
VECTORS = Path(__file__).parents[2] / "clients" / "vectors.json"
_SERVICES = tuple(
    service
    for file in (key_service_pb2, session_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
# More than any client has attempts at a time.
_THREADS = 32


class Scripted:
    """Answers every call with the next answer, and then always with the last one."""

    def __init__(self) -> None:
        self.calls = Calls()
        self._lock = threading.Lock()
        self._answers: Sequence[Mapping[str, Any]] = ()
        self._next = 0

    def begin(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Answer with these from now on."""
        with self._lock:
            self._answers, self._next = answers, 0
        self.calls.taken()

    def _answer(self) -> Mapping[str, Any]:
        with self._lock:
            if not self._answers:
                return {"error": {"code": "FAILED_PRECONDITION", "message": "no case has begun"}}
            answer = self._answers[min(self._next, len(self._answers) - 1)]
            self._next += 1
            return answer

    def _serve(self, method: Any, request: bytes, context: Any) -> bytes:
        asked = method.input_type._concrete_class.FromString(request)
        shown = MessageToDict(
            asked, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        sent = dict(context.invocation_metadata()).get("authorization")
        answer = self._answer()
        self.calls.add(
            f"{method.containing_service.full_name}/{method.name}", sent, context.time_remaining(), shown
        )
        match answer:
            case {"response": response}:
                message: Message = ParseDict(response, method.output_type._concrete_class())
                return message.SerializeToString()
            case {"raw_hex": str(text)}:
                return bytes.fromhex(text)
            case {"error": error}:
                code = grpc.StatusCode[error["code"]]
                context.set_trailing_metadata((("grpc-status-details-bin", _details(error)),))
                context.abort(code, error["message"])
            case {"hang": True}:
                given_up = threading.Event()
                if context.add_callback(given_up.set):
                    given_up.wait()
                context.abort(grpc.StatusCode.CANCELLED, "nobody waits")
        raise ValueError(f"no such answer: {answer}")

    @property
    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """One for each service."""
        return [
            grpc.method_handlers_generic_handler(
                service.full_name, {method.name: self._handler(method) for method in service.methods}
            )
            for service in _SERVICES
        ]

    def _handler(self, method: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._serve(method, request, context)
        )


def _details(error: Mapping[str, Any]) -> bytes:
    if "details_hex" in error:
        return bytes.fromhex(str(error["details_hex"]))
    status = Status(code=grpc.StatusCode[error["code"]].value[0], message=error["message"])
    if "reason" in error:
        _pack(status, ErrorInfo(reason=error["reason"], domain=error.get("domain", "authsvc")))
    if "retry_seconds" in error:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error["retry_seconds"] * 1000))
        _pack(status, retry)
    written: bytes = status.SerializeToString()
    return written


def _pack(status: Status, detail: ErrorInfo | RetryInfo) -> None:
    envelope = Envelope()
    envelope.Pack(detail)
    status.details.append(envelope)


@contextmanager
def serving(service: str = "", key: str = "") -> Iterator[dict[str, str]]:
    """Serve while the block runs, and yield the environment of a runner."""
    scripted = Scripted()
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    server.add_generic_rpc_handlers(scripted.handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            real_service(service, key) as real,
            Control(VECTORS, scripted.begin, scripted.calls, real).serving() as control,
        ):
            yield {
                "AUTHSVC_VECTORS": str(VECTORS),
                "AUTHSVC_SCRIPTED": f"127.0.0.1:{port}",
                "AUTHSVC_CONTROL": control,
                **({"AUTHSVC_SERVICE": service, "AUTHSVC_KEY": key} if service else {}),
            }
    finally:
        server.stop(None)


def main() -> None:
    """Serve until Ctrl-C. The key is not printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", default="", help="host:port of a real service, in plain text")
    parser.add_argument("--key-file", type=Path, help="a key with full access for it")
    given = parser.parse_args()
    if bool(given.service) != bool(given.key_file):
        parser.error("--service and --key-file belong together")
    key = given.key_file.read_text().strip() if given.key_file else ""
    with serving(given.service, key) as environment:
        for name, value in environment.items():
            shown = f'"$(cat {given.key_file})"' if name == "AUTHSVC_KEY" else value
            print(f"export {name}={shown}", flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
