"""What is asked about a presented credential."""

from collections.abc import Sequence
from typing import NamedTuple

from authsvc.model.caller import Caller
from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.credential import CredentialKind


class Question(NamedTuple):
    """The terms on which a credential is judged.

    `kind` is the kind that is expected; None accepts either. `caller` is who asks, and may ask only about
    credentials of its own owner; None when the credential is that of the caller itself. The credential must
    have all of `required_scopes`, and one of `any_of_scopes` unless that is empty. `client_ip` is normalized.
    `cost` is what is taken from its rate limits and credits: with 0, they are only looked at; with None, not
    even that, as for the credential of a caller.
    """

    kind: CredentialKind | None
    caller: Caller | None
    required_scopes: Sequence[str] = ()
    client_ip: str = ""
    user_agent: str = ""
    client_hints: ClientHints = NO_HINTS
    any_of_scopes: Sequence[str] = ()
    cost: int | None = None
