"""Defaults from the settings: the anonymous caller, and the policy of owners without one."""

from authsvc.config.settings import Settings
from authsvc.model.caller import ANONYMOUS, PLATFORM_OWNER, Caller
from authsvc.model.policy import OwnerPolicy


def anonymous_caller(settings: Settings) -> Caller | None:
    """Return the caller of calls without a credential; None where these are refused."""
    if not settings.anonymous_scopes:
        return None
    return Caller(ANONYMOUS, PLATFORM_OWNER, settings.anonymous_scopes)


def default_policy_of(settings: Settings) -> OwnerPolicy:
    """Return the policy of owners who have none of their own."""
    return OwnerPolicy(
        keys_enabled=settings.default_keys_enabled,
        max_active_keys=settings.default_max_active_keys,
        allowed_scopes=settings.default_allowed_scopes,
        max_key_lifetime=settings.default_max_key_lifetime,
        expiration_required=settings.default_expiration_required,
        contacts_required=settings.default_contacts_required,
        key_edits=settings.default_key_edits,
        key_managers=settings.default_key_managers,
        rotation_period=settings.default_rotation_period,
    )
