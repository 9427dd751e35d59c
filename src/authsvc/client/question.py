"""A presented credential, and what has to be verified about it."""

from collections.abc import Awaitable, Iterable
from typing import NamedTuple, overload

from authsvc.client.auth_client import AuthClient
from authsvc.client.blocking_auth_client import BlockingAuthClient
from authsvc.client.presented import type_of
from authsvc.client.verdict import CredentialType, Verdict
from authsvc.model.user_agent import of_a_user

Headers = Iterable[tuple[str, str | bytes]]


class Question(NamedTuple):
    """The same for all servers. `headers` are those of the request, with names in lower case."""

    credential: str
    scopes: tuple[str, ...]
    client_ip: str
    headers: Headers

    @overload
    def ask(self, client: AuthClient, deadline: float) -> Awaitable[Verdict]: ...

    @overload
    def ask(self, client: BlockingAuthClient, deadline: float) -> Verdict: ...

    def ask(self, client: AuthClient | BlockingAuthClient, deadline: float) -> Awaitable[Verdict] | Verdict:
        """Return the verdict, which has to be awaited if it is of an `AuthClient`."""
        if type_of(self.credential) is CredentialType.KEY:
            # Also that of gRPC libraries, which is the program here.
            agent = _user_agent(self.headers)
            return client.verify_key(self.credential, self.scopes, self.client_ip, agent, deadline=deadline)
        return client.verify_session(
            self.credential,
            self.scopes,
            self.client_ip,
            of_a_user(_user_agent(self.headers)),
            headers=self.headers,
            deadline=deadline,
        )


def _user_agent(headers: Headers) -> str:
    """Return the user agent in headers; "" without one."""
    for name, value in headers:
        if name == "user-agent" and isinstance(value, str):
            return value
    return ""
