"""The parts that verify, and that make a change true on every worker."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from authsvc.app.fills import TracedHasher, TracedStore
from authsvc.audit.refused_addresses import RefusedAddresses
from authsvc.config.reloaded_files import ReloadedFiles
from authsvc.config.settings import Settings
from authsvc.keys.derive import TokenIssue
from authsvc.keys.token_keys import TokenKeys, reloaded_token_keys
from authsvc.keys.token_verifier import TokenVerifier
from authsvc.model.key_string import KeyMint
from authsvc.model.page_token import PageTokens
from authsvc.model.policy import OwnerPolicy
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.client_holders import ClientHolders
from authsvc.revocation.holder import Holder
from authsvc.store.activity import ActivityStore
from authsvc.store.credits import CreditAccountStore
from authsvc.store.key_usage import KeyUsageStore
from authsvc.store.pool import Database
from authsvc.store.rate_budgets import RateBudgetStore
from authsvc.store.verification import MAX_WAITING_LOOK_UPS, VerificationStore
from authsvc.telemetry.spans import Tracer
from authsvc.verify.budgets import Budgets
from authsvc.verify.clock import Clock, DatabaseClock, Stopwatch
from authsvc.verify.credit_accounts import CreditAccounts
from authsvc.verify.foreign_strings import ForeignStrings
from authsvc.verify.hasher import Hasher
from authsvc.verify.key_uses import KeyUseLog
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.quotas import Quotas
from authsvc.verify.usage import UsageLog
from authsvc.verify.verifier import Verifier

# An activity that is not kept may end a session early, so there is room for more than come in a whole lease.
_MAX_ACTIVITIES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What verifies, and what keeps its memory true."""

    verifier: Verifier
    budgets: Budgets
    credit_accounts: CreditAccounts
    cache: PrefixCache
    foreign: ForeignStrings
    hasher: Hasher
    lease: Lease
    # How long a renewal lets this worker answer from memory, in seconds.
    lease_length: float
    usage: KeyUseLog
    activity: UsageLog
    refused_addresses: RefusedAddresses
    holder: Holder
    mint: KeyMint
    page_tokens: PageTokens
    database_clock: DatabaseClock
    clock: Clock
    tokens: TokenVerifier
    token_issue: TokenIssue
    token_keys: ReloadedFiles[TokenKeys] | None


def verification_of(
    settings: Settings,
    database: Database,
    default_policy: OwnerPolicy,
    tag_keys: AcceptedTagKeys,
    *,
    clock: Clock | None,
    stopwatch: Stopwatch,
    note_lent: Callable[[float], object],
    tracer: Tracer | None = None,
) -> Verification:
    """Return the parts; `clock` stands in for the database's time, `tracer` makes spans of what fills memory.

    `note_lent` writes down until when clients may answer by the leave of this worker.
    """
    mint, page_tokens = KeyMint(*tag_keys.secrets), PageTokens(*tag_keys.secrets)
    database_clock, lease = DatabaseClock(stopwatch), Lease(stopwatch)
    clock, cache = clock or database_clock, PrefixCache(settings.cache_capacity)

    def use(tag_keys: AcceptedTagKeys) -> None:
        page_tokens.use(tag_keys)
        if mint.use(tag_keys):
            # The tag of what is in memory is not checked again.
            cache.clear()

    refreshing: set[asyncio.Task[None]] = set()

    def refresh() -> None:
        task = asyncio.ensure_future(database.refresh())
        refreshing.add(task)
        task.add_done_callback(refreshing.discard)

    holder = Holder(
        cache=cache,
        lease=lease,
        clock=database_clock,
        on_tag_keys=use,
        on_reconnect=refresh,
        clients=ClientHolders(
            lease,
            clock,
            # So a client that does not confirm cannot keep this worker from renewing its own lease.
            seconds=min(settings.holder_lease, settings.lease / 4).total_seconds(),
            limit=settings.holders,
            note_lent=note_lent,
            stopwatch=stopwatch,
        ),
    )
    return Verification(
        cache=cache,
        lease=lease,
        lease_length=settings.lease.total_seconds(),
        holder=holder,
        mint=mint,
        page_tokens=page_tokens,
        database_clock=database_clock,
        clock=clock,
        **_judging(settings, database, default_policy, mint, cache, lease, holder, clock, stopwatch, tracer),
    )


class _Judging(TypedDict):
    verifier: Verifier
    foreign: ForeignStrings
    budgets: Budgets
    credit_accounts: CreditAccounts
    hasher: Hasher
    usage: KeyUseLog
    activity: UsageLog
    refused_addresses: RefusedAddresses
    tokens: TokenVerifier
    token_issue: TokenIssue
    token_keys: ReloadedFiles[TokenKeys] | None


def _judging(
    settings: Settings,
    database: Database,
    default_policy: OwnerPolicy,
    mint: KeyMint,
    cache: PrefixCache,
    lease: Lease,
    holder: Holder,
    clock: Clock,
    stopwatch: Stopwatch,
    tracer: Tracer | None,
) -> _Judging:
    """Return the verifier, and the parts that only it fills."""
    threads, queue_limit = settings.argon2_threads, settings.argon2_queue
    if tracer is None:
        store = VerificationStore(database, default_policy)
        hasher = Hasher(threads=threads, queue_limit=queue_limit)
    else:
        store = TracedStore(database, default_policy, tracer)
        hasher = TracedHasher(threads=threads, queue_limit=queue_limit, tracer=tracer)
    activities = ActivityStore(database)
    foreign = ForeignStrings(cache, store, holder)
    holder.keep(foreign)
    usage = KeyUseLog(KeyUsageStore(database))
    # A device is shown as it was seen last, also when somebody else asks about its session since.
    activity = UsageLog(activities, limit=_MAX_ACTIVITIES, fills_in=True)
    refused_addresses = RefusedAddresses(database, clock)
    token_keys, issue = _token_keys(settings)
    budgets = Budgets(RateBudgetStore(database, stopwatch), stopwatch)
    accounts = CreditAccounts(CreditAccountStore(database, stopwatch), stopwatch)
    verifier = Verifier(
        mint=mint,
        cache=cache,
        hasher=hasher,
        store=store,
        usage=usage,
        activities=activities,
        activity=activity,
        lease=lease,
        feed=holder,
        clock=clock,
        quotas=Quotas(budgets, accounts),
        note_misplaced=refused_addresses.note,
        max_loads_per_owner=max(1, min(settings.argon2_queue, MAX_WAITING_LOOK_UPS) // 2),
        foreign=foreign,
    )
    return {
        "verifier": verifier,
        "foreign": foreign,
        "budgets": budgets,
        "credit_accounts": accounts,
        "hasher": hasher,
        "usage": usage,
        "activity": activity,
        "refused_addresses": refused_addresses,
        "tokens": TokenVerifier(verifier, *issue),
        "token_issue": issue,
        "token_keys": token_keys,
    }


def _token_keys(settings: Settings) -> tuple[ReloadedFiles[TokenKeys] | None, TokenIssue]:
    file = settings.token_keys_file
    keys = None if file is None else reloaded_token_keys(file)
    return keys, TokenIssue(lambda: None if keys is None else keys.value, settings.token_issuer)
