"""The console as a client of the OpenID provider: what the operator has set."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from authsvc.config.oidc import OidcSecrets

#: Where the provider sends browsers back to.
CALLBACK = "/sign-in/oidc/callback"


class OidcClient(NamedTuple):
    """A registered client, and what its staff may do."""

    issuer: str
    client_id: str
    redirect_uri: str
    # Asked for at the provider.
    scopes: tuple[str, ...]
    roles_claim: str
    # The scopes of authsvc that each role gives.
    roles: Mapping[str, tuple[str, ...]]
    # What the button calls the provider.
    name: str
    # Returns those of the latest files.
    secrets: Callable[[], OidcSecrets]
