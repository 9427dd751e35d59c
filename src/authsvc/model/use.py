"""The last use of a credential (rule 23)."""

from datetime import datetime
from typing import NamedTuple

from authsvc.model.client_hints import NO_HINTS, ClientHints


class Use(NamedTuple):
    """A successful verification: of what, when, from which address, with which program (may be empty)."""

    credential_id: str
    time: datetime
    client_ip: str
    user_agent: str = ""
    client_hints: ClientHints = NO_HINTS
