"""The last use of a credential (rule 23)."""

from datetime import datetime
from typing import NamedTuple

from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.key_string import redact
from authsvc.model.user_agent import AGENT_LENGTH

# More is looked at than is noted, since tokens in it become shorter when they are cut out; not all, since
# whoever asks chooses its length.
_MAX_LOOKED_AT = 4 * AGENT_LENGTH


class Use(NamedTuple):
    """A successful verification: of what, when, from which address, with which program (may be empty)."""

    credential_id: str
    time: datetime
    client_ip: str
    user_agent: str = ""
    client_hints: ClientHints = NO_HINTS


def noted(user_agent: str) -> str:
    """Return as much of a user agent as is noted; a token in a long one is cut out first."""
    return (
        user_agent if len(user_agent) <= AGENT_LENGTH else redact(user_agent[:_MAX_LOOKED_AT])[:AGENT_LENGTH]
    )
