"""The way of one call through the entrance, and what it holds until its answer is sent."""

from authsvc.entrance.authentication import CredentialSpent
from authsvc.entrance.code import code_name, code_of
from authsvc.entrance.entrance import Entrance
from authsvc.entrance.incoming_call import IncomingCall, loggable
from authsvc.entrance.limits import RATE_LIMITED
from authsvc.entrance.operation import Operation
from authsvc.model.caller import Caller
from authsvc.model.confirmation import Confirmation
from authsvc.model.errors import AuthsvcError, Unauthenticated


class Admission:
    """A call from its arrival on: its place in the gate, and its share of its owner's calls.

    Call `enter`, and `authenticate` if that returns no caller; then `authorize`; `refuse` for an error of
    these or of what follows; and `leave` in every case, when the answer is sent.
    """

    __slots__ = ("_address", "_counted", "_entered", "_entrance", "_operation", "_request_id", "caller")

    def __init__(self, entrance: Entrance, operation: Operation) -> None:
        self._entrance = entrance
        self._operation = operation
        self._address = self._request_id = ""
        self._entered = False
        self._counted = ""
        #: Who calls; None while that is not known.
        self.caller: Caller | None = None

    def enter(self, call: IncomingCall) -> Caller | None:
        """Pass the gate, and return who calls if memory knows; None when `authenticate` has to look further.

        Raises Unavailable (STOPPING) or Overloaded (IN_FLIGHT_LIMIT) at the gate, and what `authenticate`
        raises.
        """
        # Not the call itself, which has the credential.
        self._address, self._request_id = call.address, call.request_id
        self._enter_gate()
        caller = self._entrance.authentication.recall(call, admits_all=self._operation.is_open)
        return None if caller is None else self._known(caller, call)

    async def authenticate(self, call: IncomingCall) -> Caller:
        """Return who calls with a credential that is not in memory.

        Raises Unauthenticated; Overloaded (RATE_LIMITED) when too many authentications from the address have
        failed; Unavailable when a credential cannot be verified now.
        """
        return self._known(await self._entrance.authentication.verify(call), call)

    def _enter_gate(self) -> None:
        self._entrance.gate.enter(slow=not self._operation.is_verification)
        self._entered = True

    def _known(self, caller: Caller, call: IncomingCall) -> Caller:
        operation = self._operation
        if operation.changes:
            # Looked at again when the change is made.
            caller = caller._replace(
                deadline=call.deadline,
                request_id=loggable(call.request_id),
                required_scopes=operation.scopes,
                confirmation=Confirmation(),
            )
        elif operation.is_open:
            # Without a confirmation, which would say in trailers whether something was changed.
            caller = caller._replace(deadline=call.deadline, request_id=loggable(call.request_id))
        self.caller = caller
        return caller

    def authorize(self, caller: Caller) -> None:
        """Count the call for its owner unless it is a verification, and look at the caller's scopes.

        Raises Overloaded (RATE_LIMITED, IN_FLIGHT_LIMIT) and PermissionDenied (SCOPE_MISSING).
        """
        if not self._operation.is_verification:
            self._counted = self._entrance.limits.enter(caller, is_open=self._operation.is_open)
        self._operation.check_scopes(caller)

    def resume(self, call: IncomingCall, caller: Caller | None, *, inside: bool) -> None:
        """Take over a call that was begun without an admission; if `inside`, it gets a place in the gate."""
        self._address, self._request_id = call.address, call.request_id
        self.caller = caller
        if inside:
            self._enter_gate()

    async def refuse(self, error: AuthsvcError) -> None:
        """Count a refusal; record that of a known caller; delay a failed authentication, beyond a rate.

        Refusals for the state of the service (full, stopping, without a lease) are answered at once: they may
        meet callers that are not known yet, and tell them when to retry.
        """
        operation = self._operation
        operation.count_error(code_name(code_of(error)))
        if isinstance(error, CredentialSpent):
            self.caller = error.caller
        if self.caller is not None and not self.caller.is_stranger:
            caller = self.caller._replace(request_id=loggable(self._request_id))
            self._entrance.note_refusal(caller, operation.name, error)
        elif isinstance(error, Unauthenticated) or error.reason == RATE_LIMITED:
            self.leave()  # who waits takes no place
            await self._entrance.strangers.wait(self._address)

    @property
    def is_inside(self) -> bool:
        """Whether the call holds a place in the gate."""
        return self._entered

    def leave(self) -> None:
        """Give up the place in the gate, and the share. May be called again."""
        if self._counted:
            self._entrance.limits.leave(self._counted)
            self._counted = ""
        if self._entered:
            self._entered = False
            self._entrance.gate.leave(slow=not self._operation.is_verification)
