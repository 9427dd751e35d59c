"""A form whose subject was changed since the form was made: by others, or by the form itself."""

from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem

_STALE = "ETAG_MISMATCH"
# The change is made, but the call has not ended well; so the same form goes on from what is there now.
_MADE = "WORKERS_UNCONFIRMED"


def is_stale(problem: Problem | None) -> bool:
    """Return whether a form was refused because of a change by somebody else."""
    return problem is not None and problem.reason == _STALE


def etag_for(request: PageRequest, problem: Problem | None, current: str) -> str:
    """Return the etag that a form has when it is shown.

    It is that of the state that the form was made from, so that a change meanwhile is noticed. Once somebody
    was told of the change, it is the `current` one: they decide whether to send the form again.
    """
    if problem is not None and problem.reason in (_STALE, _MADE):
        return current
    return request.form("etag") or current
