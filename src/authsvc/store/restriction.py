"""What the rows of credentials say about when, where and how often a key may be used."""

from datetime import datetime

import asyncpg

from authsvc.model.allowed_networks import AllowedNetworks
from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.credential import FOREVER, CredentialKind
from authsvc.model.policy import OwnerPolicy
from authsvc.model.rate_limit import RateLimits
from authsvc.store import rate_limits as limits_column


def disabled_until(row: asyncpg.Record, default_policy: OwnerPolicy) -> datetime | None:
    """Return until when a credential is disabled, by itself or by its owner's policy; None if it is not."""
    if row["kind"] != CredentialKind.KEY.value:
        return None
    if not default_policy.enables_keys(row["owner_id"], row["keys_enabled"]):
        return FOREVER
    if row["disable_time"] is None:
        return None
    until: datetime | None = row["disabled_until"]
    return FOREVER if until is None else until


def allowed_networks(row: asyncpg.Record) -> AllowedNetworks | None:
    """Return the networks that a credential is confined to; None: it is not."""
    of_key = row["allowed_networks"]
    # The platform has no policy.
    of_owner = row["owner_networks"] if row["owner_id"] != PLATFORM_OWNER else None
    return AllowedNetworks(of_key, of_owner or ()) if of_key or of_owner else None


def rate_limits(row: asyncpg.Record) -> RateLimits | None:
    """Return the rate limits and credits of a credential, and the limits of its owner; None without any."""
    # The platform has no policy.
    of_owner = row["owner_rate_limits"] if row["owner_id"] != PLATFORM_OWNER else None
    account_id: str | None = row["credit_account_id"]
    if (
        row["rate_limits"] == limits_column.NONE
        and of_owner in (None, limits_column.NONE)
        and account_id is None
    ):
        return None
    return RateLimits(
        row["budget_id"] or row["credential_id"],
        row["owner_id"],
        limits_column.from_json(row["rate_limits"]),
        limits_column.from_json(of_owner),
        account_id=account_id or "",
        account_epoch=row["credit_epoch"] or 0,
    )
