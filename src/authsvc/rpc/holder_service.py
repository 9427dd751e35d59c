"""HolderService: lets clients verify in their own process, by the rules R12 to R16 of docs/revocation.md.

A stream passes the same entrance as any other call, and its caller is looked at again with each sub-lease.
"""

from functools import partial
from random import uniform
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from authsvc.entrance.entrance import Entrance
from authsvc.entrance.incoming_call import IncomingCall
from authsvc.entrance.limits import account_of
from authsvc.entrance.operation import Operation
from authsvc.model.caller import Caller
from authsvc.model.errors import AuthsvcError, FieldViolation, InvalidArgument
from authsvc.revocation.client_holder import Member
from authsvc.revocation.client_holders import ClientHolders
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.call import Call
from authsvc.rpc.context import Context, incoming_call
from authsvc.rpc.following import Following
from authsvc.rpc.holder_request import read
from authsvc.rpc.peer import address_of
from authsvc.rpc.rpc import Rpc
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.v1 import options_pb2
from authsvc.verify.verifier import Verifier

# The longest that a client follows by one stream, in seconds; the next one may lead to another worker.
_MAX_FOLLOW_SECONDS = 3600.0


class HolderService:
    """Serves `authsvc.v1.HolderService`; the comments in the proto are its specification."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["HolderService"]

    def __init__(self, clients: ClientHolders, verifier: Verifier) -> None:
        self._clients, self._verifier = clients, verifier

    def rpcs(self, entrance: Entrance, bounds: Bounds) -> list[Rpc]:
        """Return the RPCs of the service."""
        method = self.descriptor.methods_by_name["Follow"]
        scope: str = method.GetOptions().Extensions[options_pb2.required_scope]
        follow = _Follow(
            entrance.operation(method.name, (scope,)), entrance, bounds, self._clients, self._verifier
        )
        return [Rpc(f"/{self.descriptor.full_name}/{method.name}", follow.handle, writes=True, lasts=True)]


class _Follow:
    """The RPC Follow."""

    def __init__(
        self,
        operation: Operation,
        entrance: Entrance,
        bounds: Bounds,
        clients: ClientHolders,
        verifier: Verifier,
    ) -> None:
        self._operation, self._entrance, self._bounds = operation, entrance, bounds
        self._clients, self._verifier = clients, verifier

    async def handle(self, _: object, context: Context) -> None:
        """Serve a stream until one of both ends it."""
        incoming = incoming_call(context, context.peer(), self._bounds.stopwatch, with_deadline=False)
        call = Call(self._entrance, self._bounds, self._operation, context, incoming)
        try:
            await self._serve(call, context)
        except AuthsvcError as error:
            await call.refuse(error)
        except Exception:  # noqa: BLE001 - the client gets a status, whatever happens
            await call.fail()
        else:
            call.end()

    async def _serve(self, call: Call, context: Context) -> None:
        admission, bounds, incoming = call.admission, self._bounds, call.incoming
        caller = admission.enter(incoming) or await admission.authenticate(incoming)
        bounds.connections.known(call.peer)
        call.account = account_of(caller) or call.peer
        admission.authorize(caller)
        caller.refuse_tenant("verify in their own process")
        first = read(await bounds.arrivals.message(context, call.account))
        if first.WhichOneof("message") != "join":
            raise InvalidArgument(FieldViolation("join", "request.first", "has to be the first message"))
        member = Member(
            caller.credential_id,
            caller.owner_id,
            caller.key_prefix,
            caller.client_ip or address_of(call.peer),
            first.join.instance,
        )
        # From here on, AUTHSVC_HOLDERS is the limit.
        admission.leave()
        following = Following(
            context,
            self._clients,
            self._verifier,
            partial(self._recall, incoming),
            partial(self._judge, incoming),
            first.join.rules,
        )
        await following.run(member, first.join.capacity, uniform(0.8, 1.0) * _MAX_FOLLOW_SECONDS)  # noqa: S311

    def _recall(self, incoming: IncomingCall) -> Caller | None:
        """Return who follows, as of now, if memory knows; raise what a new call would be refused by."""
        caller = self._entrance.authentication.recall(incoming)
        return None if caller is None else self._checked(caller)

    async def _judge(self, incoming: IncomingCall) -> Caller:
        """Return who follows, as of now; raise what a new call would be refused by."""
        return self._recall(incoming) or self._checked(await self._entrance.authentication.verify(incoming))

    def _checked(self, caller: Caller) -> Caller:
        self._operation.check_scopes(caller)
        caller.refuse_tenant("verify in their own process")
        return caller
