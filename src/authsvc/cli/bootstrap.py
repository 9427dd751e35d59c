"""`authsvc bootstrap`: creates the first administrator key of a deployment."""

import os
import sys
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter

from authsvc import app
from authsvc.cli import kubernetes_secret as secrets
from authsvc.cli.call import ClientError, notes
from authsvc.cli.parameters import Duration
from authsvc.cli.service import start
from authsvc.keys import Keys
from authsvc.keys.minting import NewKeyString
from authsvc.model.caller import BOOTSTRAP, PLATFORM_OWNER
from authsvc.model.errors import AuthsvcError
from authsvc.model.key import KeyState
from authsvc.model.key_query import KeyFilter, KeyOrder, KeyQuery
from authsvc.model.scope import FULL_ACCESS
from authsvc.model.text import fault, kept

_WORKING = KeyQuery(
    PLATFORM_OWNER, KeyFilter(states=(KeyState.ACTIVE,), scope=FULL_ACCESS), KeyOrder("create_time", True)
)


# Of the Secret.
_KEY = "key"


async def bootstrap(
    *,
    force: Annotated[bool, Parameter(negative="")] = False,
    display_name: str = "administrator",
    ttl: Duration = None,
    kubernetes_secret: str | None = None,
) -> None:
    """Create the first administrator key and print its key string, which is never shown again.

    The key has full_access. It belongs to the owner `authsvc`, so it acts on every owner. The
    command uses the database of AUTHSVC_DATABASE_URL, whether or not the service runs. It fails
    if there is a working administrator key.

    Parameters
    ----------
    force
        Create another key, if the first one is lost. Revoke the lost one afterwards.
    display_name
        The human-readable name of the key.
    ttl
        The lifetime of the key, for instance 90d. By default, it never expires.
    kubernetes_secret
        In a pod: write the key string into a new Secret of this name, under `key`, and do not
        print it. If the Secret exists, or there is a working administrator key, nothing is done.
    """
    settings = start()
    if settings.database_url is None and settings.migration_database_url is not None:
        settings = settings.model_copy(update={"database_url": settings.migration_database_url})
    display_name = kept(display_name)
    if not display_name or len(display_name) > 255:
        raise ClientError("--display-name: use 1 to 255 characters in one line, not only spaces")
    if problem := fault(display_name):
        raise ClientError(f"--display-name: {problem}")
    secret = None
    if kubernetes_secret is not None:
        secret = await _unwritten(kubernetes_secret, force=force)
        if secret is None:
            return
    try:
        async with app.administering(settings) as keys:
            minted = await keys.ensure_administrator(another=force, display_name=display_name, ttl=ttl)
            if secret is None:
                await _print(keys, minted)
            else:
                await _write(keys, minted, secret)
    except AuthsvcError as error:
        raise ClientError(error.message) from None


async def _print(keys: Keys, minted: NewKeyString | None) -> None:
    if minted is None:
        raise ClientError(
            f"there is a working administrator key: {await _listed(keys)}. Use it, or rotate it with "
            "`authsvc keys rotate`. If it is lost, or its tag key was retired, create another one "
            "with `authsvc bootstrap --force`, then revoke the old one with `authsvc keys revoke`"
        )
    try:
        print(minted.text, flush=True)
    except OSError as error:
        # Python would try to write the rest when it exits.
        sys.stdout = None
        raise ClientError(
            f"the key string of {minted.prefix} could not be written ({error.strerror}) and is lost; "
            "create another key with `authsvc bootstrap --force`, then revoke this one"
        ) from None
    notes.print(
        f"This is the administrator key {minted.prefix}..., which is shown only once. "
        "Protect it like a root password.",
        soft_wrap=True,
    )


async def _unwritten(name: str, *, force: bool) -> secrets.KubernetesSecret | None:
    """Return the Secret if it can be created; None if it exists. Raises SecretError."""
    secret = secrets.KubernetesSecret(name, os.environ, secrets.SERVICE_ACCOUNT)
    if not await secret.exists():
        # Before there is a key that could be lost.
        await secret.check(_KEY)
        return secret
    if force:
        raise ClientError(f"the Secret {name!r} exists; delete it, or name another one")
    notes.print(f"The Secret {name!r} exists; nothing was done.", soft_wrap=True)
    return None


async def _write(keys: Keys, minted: NewKeyString | None, secret: secrets.KubernetesSecret) -> None:
    if minted is None:
        notes.print(
            f"There is a working administrator key: {await _listed(keys)}. Nothing was done, and "
            f"the Secret {secret.name!r} was not created. If nobody has the key string, run the "
            "command once with --force.",
            soft_wrap=True,
        )
        return
    try:
        await secret.create(_KEY, minted.text)
    except secrets.UncertainSecretError as error:
        raise ClientError(
            f"it is unknown whether the administrator key {minted.prefix}... was written to the Secret "
            f"{secret.name!r}: {error}. If the Secret is not there, run the command with --force, then "
            "revoke this key"
        ) from None
    except secrets.SecretError as error:
        try:
            await _take_back(keys, minted)
        except AuthsvcError as left:
            raise ClientError(
                f"{error}; the administrator key {minted.prefix}..., which nobody has, could not be revoked "
                f"again: {left.message}. Run the command with --force, then revoke this key"
            ) from None
        raise ClientError(f"{error}; the administrator key {minted.prefix}... was revoked again") from None
    notes.print(
        f"The administrator key {minted.prefix}... is in the Secret {secret.name!r}, under {_KEY!r}. "
        "Protect it like a root password.",
        soft_wrap=True,
    )


async def _take_back(keys: Keys, minted: NewKeyString) -> None:
    """Revoke a key whose string nobody has, so that the command can be run again."""
    of_string = KeyQuery(PLATFORM_OWNER, KeyFilter(query=minted.prefix), KeyOrder("create_time", True))
    page, _ = await keys.list(BOOTSTRAP, of_string, page_size=10, page_token="", with_total=False)
    for key in page.items:
        if key.key_prefix == minted.prefix:
            await keys.revoke(
                BOOTSTRAP,
                key.key_id,
                reason="its key string could not be stored",
                revoke_in=timedelta(),
                allow_last_administrator=True,
            )


async def _listed(keys: Keys) -> str:
    page, _ = await keys.list(BOOTSTRAP, _WORKING, page_size=3, page_token="", with_total=False)
    listed = ", ".join(f"{key.key_id} ({key.key_prefix}..., {key.display_name!r})" for key in page.items)
    return f"{listed} and more" if page.more else listed
