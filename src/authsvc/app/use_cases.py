"""The use cases of keys, sessions, policies, the audit log and webhooks."""

from dataclasses import dataclass
from datetime import timedelta

from authsvc.app.verification import Verification
from authsvc.app.webhooks import webhooks_of
from authsvc.audit import Audit
from authsvc.config.settings import Settings
from authsvc.keys import Keys, Leaks
from authsvc.keys.policies import Policies
from authsvc.model.catalogue import Catalogue
from authsvc.model.session import SessionBounds
from authsvc.notifications.webhooks import Webhooks
from authsvc.revocation.authority import Authority
from authsvc.revocation.barrier import Barrier
from authsvc.sessions import Sessions
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.verify.lease import certainly_over


@dataclass(frozen=True, kw_only=True)
class UseCases:
    """What transports call, and the barrier that their changes wait at."""

    keys: Keys
    leaks: Leaks
    sessions: Sessions
    policies: Policies
    audit: Audit
    webhooks: Webhooks
    barrier: Barrier


def grace_margin(settings: Settings) -> timedelta:
    """Return how long ago a use of a key may have been that is not written yet.

    A worker writes after each interval, and once more if that fails, of what clients reported a sub-lease ago
    at most. One that is cut off from the database sees no uses any more when its lease is over.
    """
    seconds = certainly_over(settings.lease.total_seconds())
    return timedelta(seconds=seconds) + settings.holder_lease + 2 * settings.usage_interval


def use_cases_of(
    settings: Settings,
    database: Database,
    policy_store: PolicyStore,
    catalogue: Catalogue,
    verification: Verification,
    authority: Authority,
    barrier: Barrier,
) -> UseCases:
    """Return the use cases on one database, with the same authority, barrier and clock."""
    clock, page_tokens, mint = verification.clock, verification.page_tokens, verification.mint
    keys = Keys(
        database=database,
        authority=authority,
        barrier=barrier,
        verifier=verification.verifier,
        hasher=verification.hasher,
        mint=mint,
        page_tokens=page_tokens,
        clock=clock,
        brand=settings.brand,
        catalogue=catalogue,
        policies=policy_store,
        token_issue=verification.token_issue,
        grace_margin=grace_margin(settings),
    )
    sessions = Sessions(
        database=database,
        authority=authority,
        barrier=barrier,
        mint=mint,
        page_tokens=page_tokens,
        clock=clock,
        brand=settings.brand,
        bounds=SessionBounds(
            settings.session_idle_timeout,
            settings.session_idle_timeout_max,
            settings.session_lifetime,
            settings.session_lifetime_max,
        ),
        catalogue=catalogue,
        policies=policy_store,
    )
    policies = Policies(
        database=database, barrier=barrier, store=policy_store, catalogue=catalogue, clock=clock
    )
    return UseCases(
        keys=keys,
        leaks=Leaks(verification.verifier, mint, barrier, clock),
        sessions=sessions,
        policies=policies,
        audit=Audit(database=database, page_tokens=page_tokens),
        webhooks=webhooks_of(settings, database, authority, page_tokens, clock),
        barrier=barrier,
    )
