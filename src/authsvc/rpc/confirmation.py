"""What a change waited for, in trailing metadata."""

from authsvc.model.caller import Caller

#: How many clients held credentials when the change was committed. Left out if that is not known.
HOLDERS = "authsvc-holders"
#: How long the call waited after the commit, in milliseconds.
WAIT_MS = "authsvc-wait-ms"


Trailers = tuple[tuple[str, str], ...]


def confirmation_trailers(caller: Caller) -> Trailers:
    """Return the trailers of a call that has waited for workers; none for any other."""
    confirmation = caller.confirmation
    if confirmation is None or confirmation.seconds is None:
        return ()
    wait = WAIT_MS, f"{1000 * confirmation.seconds:.1f}"
    return (wait,) if confirmation.holders is None else ((HOLDERS, str(confirmation.holders)), wait)
