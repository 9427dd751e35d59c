"""What a change waited for, and what a cascade has ended, in trailing metadata."""

from authsvc.model.caller import Caller

#: How many clients held credentials when the change was committed. Left out if that is not known.
HOLDERS = "authsvc-holders"
#: How long the call waited after the commit, in milliseconds.
WAIT_MS = "authsvc-wait-ms"
#: How many keys and sessions a cascade has revoked besides the key itself. Workers that know no cascade leave
#: them out.
CASCADE_KEYS, CASCADE_SESSIONS = "authsvc-cascade-keys", "authsvc-cascade-sessions"


Trailers = tuple[tuple[str, str], ...]


def confirmation_trailers(caller: Caller) -> Trailers:
    """Return the trailers of a call that has waited for workers; none for any other."""
    confirmation = caller.confirmation
    if confirmation is None or confirmation.seconds is None:
        return ()
    trailers = [(WAIT_MS, f"{1000 * confirmation.seconds:.1f}")]
    if confirmation.holders is not None:
        trailers.insert(0, (HOLDERS, str(confirmation.holders)))
    if confirmation.ended is not None:
        keys, sessions = confirmation.ended
        trailers += [(CASCADE_KEYS, str(keys)), (CASCADE_SESSIONS, str(sessions))]
    return tuple(trailers)
