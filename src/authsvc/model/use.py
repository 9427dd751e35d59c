"""The last use of a credential (rule 23)."""

from datetime import datetime
from typing import NamedTuple

from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.key_string import redact
from authsvc.model.user_agent import AGENT_LENGTH

# How many characters are searched for tokens. More than are noted, because redaction makes a text shorter;
# bounded, because the client chooses the length.
_MAX_SEARCHED_LENGTH = 4 * AGENT_LENGTH


class Use(NamedTuple):
    """A successful verification. `user_agent` and `client_ip` may be empty."""

    credential_id: str
    time: datetime
    client_ip: str
    user_agent: str = ""
    client_hints: ClientHints = NO_HINTS


def noted(user_agent: str) -> str:
    """Return a user agent as it is noted: redacted and cut if it is long."""
    return (
        user_agent
        if len(user_agent) <= AGENT_LENGTH
        else redact(user_agent[:_MAX_SEARCHED_LENGTH])[:AGENT_LENGTH]
    )
