"""Limits for each owner and each address. Each worker counts for itself.

Verifications of known callers are limited by the number of calls in flight only.
"""

from collections.abc import Callable

from authsvc.entrance.gate import full
from authsvc.model.address import site
from authsvc.model.caller import ANONYMOUS, PLATFORM_OWNER, Caller
from authsvc.model.errors import Overloaded
from authsvc.model.rate import UNLIMITED, Limiter, Rate

#: The reason of refusals beyond a rate.
RATE_LIMITED = "RATE_LIMITED"
#: Calls of strangers, whose messages are read, that may be in flight: of all, and of one address.
MAX_STRANGERS, MAX_PER_STRANGER = 64, 4
_STRANGER = "stranger at "


class Limits:
    """Refuses callers that ask for too much, and tells when to retry."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        callers: Rate = UNLIMITED,
        failures: Rate = UNLIMITED,
        open_calls: Rate = UNLIMITED,
        max_in_flight: int = 1_000_000,
    ) -> None:
        """Take a stopwatch, the rates, and how many calls may be in flight in all."""
        self._callers = Limiter(callers, now)
        self._failures = Limiter(failures, now)
        self._open_calls = Limiter(open_calls, now)
        # Changes may wait long for other workers. Those of one owner leave room for three more like it.
        self._max_per_owner = max(1, max_in_flight // 8)
        self._in_flight: dict[str, int] = {}
        self._strangers = 0
        #: How many calls were refused, by the limit.
        self.refused = {"caller": 0, "failure": 0, "leak_report": 0}

    def enter(self, caller: Caller, *, is_open: bool = False) -> str:
        """Count a call that is not a verification; return the account, which is to `leave` when it is done.

        Calls that are open to all are large, and cost much: they are also counted by themselves.

        All callers of an owner share one account, so that more keys get nobody more calls. Callers of the
        platform are not counted, since they act for all owners. Raises Overloaded (IN_FLIGHT_LIMIT,
        RATE_LIMITED).
        """
        name = account_of(caller)
        if not name:
            return ""
        in_flight = self._in_flight.get(name, 0)
        is_stranger = name.startswith(_STRANGER)
        if is_stranger and (self._strangers >= MAX_STRANGERS or in_flight >= MAX_PER_STRANGER):
            self.refused["leak_report"] += 1
            raise Overloaded(
                "too many calls of unknown callers are in flight; retry, or call with a credential",
                reason="IN_FLIGHT_LIMIT",
                retry_after=1,
            )
        if in_flight >= self._max_per_owner:
            self.refused["caller"] += 1
            raise full("of one owner's ")
        if wait := self._callers.take(name):
            self.refused["caller"] += 1
            raise _limited("calls of one owner", "AUTHSVC_CALLER_LIMIT", wait)
        if is_open and (wait := self._open_calls.take(name)):
            self.refused["leak_report"] += 1
            raise _limited("reports of one address or owner", "AUTHSVC_LEAK_REPORT_LIMIT", wait)
        self._in_flight[name] = in_flight + 1
        self._strangers += is_stranger
        return name

    def leave(self, name: str) -> None:
        """Count a call of this account as done."""
        self._strangers -= name.startswith(_STRANGER)
        left = self._in_flight.pop(name) - 1
        if left:
            self._in_flight[name] = left

    def check_failures(self, address: str) -> None:
        """Raise Overloaded (RATE_LIMITED) when too many authentications from an address have failed."""
        if len(self._failures) and (wait := self._failures.wait(site(address))):
            self._refuse_failure(wait)

    def count_failure(self, address: str) -> None:
        """Count an authentication that failed; raise Overloaded (RATE_LIMITED) beyond the limit."""
        if wait := self._failures.take(site(address)):
            self._refuse_failure(wait)

    def _refuse_failure(self, wait: float) -> None:
        self.refused["failure"] += 1
        raise _limited("failed authentications from one address", "AUTHSVC_FAILURE_LIMIT", wait)


def account_of(caller: Caller) -> str:
    """Return the account of a caller: its owner; its address if anonymous; "" for the platform's callers."""
    if caller.is_stranger:
        return f"{_STRANGER}{site(caller.client_ip)}"
    if caller.credential_id == ANONYMOUS and caller.kind is None:
        return f"address {site(caller.client_ip)}"
    return "" if caller.owner_id == PLATFORM_OWNER else caller.owner_id


def _limited(what: str, setting: str, wait: float) -> Overloaded:
    return Overloaded(
        f"too many {what}; retry in {wait:.3g} s. The operator sets the limit with {setting}",
        reason=RATE_LIMITED,
        retry_after=wait,
        setting=setting,
    )
