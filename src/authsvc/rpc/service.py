"""The endpoints of a service, built from its descriptor.

An RPC is served exactly when its proto names the scope that it needs, or says that it is open to all.
"""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from authsvc.entrance.entrance import Entrance
from authsvc.entrance.operation import Operation
from authsvc.model.caller import Caller
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.endpoint import Delivery, Endpoint, Method, Recall
from authsvc.rpc.observed import ObservedEndpoint, ReadVerdict, verdict_reader
from authsvc.rpc.request import parser
from authsvc.rpc.rpc import Rpc
from authsvc.v1 import options_pb2


class Service(Protocol):
    """Serves the RPCs of `descriptor`, each by the method of the same name."""

    descriptor: ClassVar[ServiceDescriptor]


@runtime_checkable
class Recalling(Protocol):
    """A service that answers some of its RPCs from memory, by their names."""

    recalls: dict[str, Recall]


@runtime_checkable
class Delivering(Protocol):
    """A service that is told whether its answers with new key strings were sent."""

    def delivery(self, request: Message, answer: Message) -> Callable[[bool], object]:
        """Return the function to call with True when the answer was sent, and False when it was lost."""


class Raw(NamedTuple):
    """An RPC of another protocol: `serve` takes and returns bytes. Callers need all of `scopes`."""

    service: str
    method: str
    scopes: tuple[str, ...]
    serve: Callable[[Caller, bytes], Awaitable[bytes]]
    recall: Recall
    # Returns what a serialized answer says, for the access log.
    read_verdict: ReadVerdict = lambda _: ""


def service_rpcs(service: Service, entrance: Entrance, bounds: Bounds) -> list[Rpc]:
    """Return all RPCs of a service."""
    recalls = service.recalls if isinstance(service, Recalling) else {}
    return [
        _endpoint(
            entrance.operation(method.name, scopes_of(method)),
            parser(method),
            getattr(service, method.name),
            _serialize,
            entrance,
            bounds,
            recall=recalls.get(method.name),
            delivery=_delivery(service, method),
            read_verdict=verdict_reader(method.output_type),
        ).rpc(service.descriptor.full_name)
        for method in service.descriptor.methods
    ]


def raw_rpc(raw: Raw, entrance: Entrance, bounds: Bounds) -> Rpc:
    """Return an RPC of another protocol, which passes the same entrance."""
    operation = entrance.operation(raw.method, raw.scopes)
    endpoint: Endpoint[Any] = _endpoint(
        operation,
        _unchanged,
        raw.serve,
        _unchanged,
        entrance,
        bounds,
        recall=raw.recall,
        read_verdict=raw.read_verdict,
    )
    return endpoint.rpc(raw.service)


def _endpoint(
    operation: Operation,
    parse: Callable[[bytes], Any],
    serve: Method[Any],
    serialize: Callable[[Any], bytes],
    entrance: Entrance,
    bounds: Bounds,
    *,
    read_verdict: ReadVerdict,
    recall: Recall | None = None,
    delivery: Delivery | None = None,
) -> Endpoint[Any]:
    """Return an endpoint, which is observed if the entrance has an observer."""
    given = operation, parse, serve, serialize, entrance, bounds
    if entrance.observer is None:
        return Endpoint(*given, recall=recall, delivery=delivery)
    observed: ObservedEndpoint[Any] = ObservedEndpoint(*given, recall=recall, delivery=delivery)
    observed.observe(entrance.observer, read_verdict)
    return observed


def _delivery(service: Service, method: MethodDescriptor) -> Delivery | None:
    return (
        service.delivery
        if isinstance(service, Delivering) and "key_string" in method.output_type.fields_by_name
        else None
    )


def scopes_of(method: MethodDescriptor) -> tuple[str, ...]:
    """Return the scopes that callers of an RPC need; none if it is open to all, by its proto."""
    options = method.GetOptions()
    scope: str = options.Extensions[options_pb2.required_scope]
    is_open: bool = options.Extensions[options_pb2.open_to_all]
    if bool(scope) is is_open:
        raise ValueError(f"{method.full_name} has to name either a required_scope or open_to_all")
    return (scope,) if scope else ()


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _unchanged(data: bytes) -> bytes:
    return data
