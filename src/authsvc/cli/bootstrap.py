"""`authsvc bootstrap`: creates the first administrator key of a deployment."""

import sys
from typing import Annotated

from cyclopts import Parameter

from authsvc import app
from authsvc.cli.call import ClientError, notes
from authsvc.cli.parameters import Duration
from authsvc.cli.service import start
from authsvc.keys import Keys
from authsvc.model.caller import BOOTSTRAP, PLATFORM_OWNER
from authsvc.model.errors import AuthsvcError
from authsvc.model.key import KeyState
from authsvc.model.key_query import KeyFilter, KeyOrder, KeyQuery
from authsvc.model.scope import FULL_ACCESS
from authsvc.model.text import fault, kept

_WORKING = KeyQuery(
    PLATFORM_OWNER, KeyFilter(states=(KeyState.ACTIVE,), scope=FULL_ACCESS), KeyOrder("create_time", True)
)


async def bootstrap(
    *,
    force: Annotated[bool, Parameter(negative="")] = False,
    display_name: str = "administrator",
    ttl: Duration = None,
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
    """
    settings = start()
    if settings.database_url is None and settings.migration_database_url is not None:
        settings = settings.model_copy(update={"database_url": settings.migration_database_url})
    display_name = kept(display_name)
    if not display_name or len(display_name) > 255:
        raise ClientError("--display-name: use 1 to 255 characters in one line, not only spaces")
    if problem := fault(display_name):
        raise ClientError(f"--display-name: {problem}")
    try:
        async with app.administering(settings) as keys:
            minted = await keys.ensure_administrator(another=force, display_name=display_name, ttl=ttl)
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
    except AuthsvcError as error:
        raise ClientError(error.message) from None
    notes.print(
        f"This is the administrator key {minted.prefix}..., which is shown only once. "
        "Protect it like a root password.",
        soft_wrap=True,
    )


async def _listed(keys: Keys) -> str:
    page, _ = await keys.list(BOOTSTRAP, _WORKING, page_size=3, page_token="", with_total=False)
    listed = ", ".join(f"{key.key_id} ({key.key_prefix}..., {key.display_name!r})" for key in page.items)
    return f"{listed} and more" if page.more else listed
