"""`authsvc bootstrap`: the first administrator key of a deployment."""

import sys
from typing import Annotated

from cyclopts import Parameter

from authsvc import app
from authsvc.cli.call import ClientError, notes
from authsvc.cli.duration import Duration
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
    """Mint the first administrator key and print its key string, which is never shown again.

    The key belongs to the owner `authsvc`, so it acts on every owner, and has full_access. Works on
    the database of AUTHSVC_DATABASE_URL, whether or not the service runs. Refuses when there is a
    working administrator key.

    Parameters
    ----------
    force
        Mint another one, for when the first is lost; then revoke that one.
    display_name
        What people call the key.
    ttl
        How long it lives, for instance 90d; without it, for ever.
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
                    "`authsvc keys rotate`. If it is lost, or its tag key was retired: `authsvc bootstrap "
                    "--force` mints another; then revoke the old one with `authsvc keys revoke`"
                )
            try:
                print(minted.text, flush=True)
            except OSError as error:
                # Python would try to write the rest at its end.
                sys.stdout = None
                raise ClientError(
                    f"the key string of {minted.prefix} could not be written ({error.strerror}) and is lost: "
                    "`authsvc bootstrap --force` mints another; then revoke that one"
                ) from None
    except AuthsvcError as error:
        raise ClientError(error.message) from None
    notes.print(
        f"This is the administrator key {minted.prefix}..., shown this once. Keep it like a root password.",
        soft_wrap=True,
    )


async def _listed(keys: Keys) -> str:
    found, more, _ = await keys.list(BOOTSTRAP, _WORKING, page_size=3, page_token="", with_total=False)
    told = ", ".join(f"{key.key_id} ({key.key_prefix}..., {key.display_name!r})" for key in found)
    return f"{told} and more" if more else told
