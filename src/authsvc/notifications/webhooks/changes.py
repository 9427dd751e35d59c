"""CreateWebhook, UpdateWebhook, DeleteWebhook, RotateWebhookSecret."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

from authsvc import audit
from authsvc.model import platform
from authsvc.model.address import Network
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.errors import Conflict, FailedPrecondition
from authsvc.model.identifier import new_identifier
from authsvc.model.key import TechnicalContact
from authsvc.model.webhook import MAX_WEBHOOKS, SecretVersion, Webhook, check_event_types
from authsvc.notifications.webhooks.addresses import url_fault
from authsvc.notifications.webhooks.registered import refuse_url, refuse_without_keys, visible
from authsvc.notifications.webhooks.signing_keys import SigningKeys
from authsvc.revocation.authority import Authority
from authsvc.store import webhooks as webhook_store
from authsvc.store.pool import Connection

# Deliveries that are deleted in a transaction, so that none of them holds the locks of a caller for long.
_DELETED_AT_ONCE = 5000


class WebhookChanges(Protocol):
    """Changes webhooks."""

    _authority: Authority
    _keys: SigningKeys
    _networks: Sequence[Network]
    _clock: Callable[[], datetime]

    async def create(
        self,
        caller: Caller,
        owner_id: str,
        url: str,
        *,
        description: str = "",
        event_types: Sequence[str] = (),
        technical_contacts: Sequence[TechnicalContact] = (),
        enabled: bool = True,
    ) -> tuple[Webhook, str]:
        """Create a webhook; return it with its secret, which cannot be read again.

        Raises:
            PermissionDenied: OWNER_NOT_PERMITTED.
            InvalidArgument: INVALID_FIELD, if the URL must not be called, a type of event is unknown, or the
                owner's name resembles the platform's.
            FailedPrecondition: MAX_WEBHOOKS, if the owner has too many; WEBHOOKS_NOT_ENABLED.
        """
        caller.refuse_other_owner(owner_id)
        platform.refuse_lookalike(owner_id)
        refuse_without_keys(self._keys)
        refuse_url(url_fault(url, self._networks), "url")
        check_event_types(event_types, "event_types")
        async with self._authority.transaction(caller) as (connection, _):
            if await webhook_store.count(connection, owner_id) >= MAX_WEBHOOKS:
                raise FailedPrecondition(
                    f"{owner_id} has {MAX_WEBHOOKS} webhooks, which is the maximum; delete one, or have one "
                    "webhook get more types of events",
                    reason="MAX_WEBHOOKS",
                    limit=str(MAX_WEBHOOKS),
                )
            now = self._clock()
            version = SecretVersion(1, self._keys.current_id)
            webhook = Webhook(
                webhook_id=new_identifier("whk", now),
                owner_id=owner_id,
                url=url,
                description=description,
                event_types=tuple(sorted(event_types)),
                technical_contacts=tuple(technical_contacts),
                enabled=enabled,
                create_time=now,
                creator_id=caller.credential_id,
                update_time=now,
                secrets=(version,),
            )
            await webhook_store.insert(connection, webhook)
            details = _details(webhook, ("url", "event_types", "enabled"))
            await _record(connection, caller, Action.WEBHOOK_CREATED, webhook, now, details)
        return webhook, self._keys.shown(webhook.webhook_id, version)

    async def update(
        self, caller: Caller, webhook_id: str, fields: Mapping[str, object], etag: str
    ) -> Webhook:
        """Update a webhook; return it. `fields` has the new values by name.

        If it has all of these values already, nothing is written and nothing is recorded. An `etag` that is
        not empty has to be that of the webhook.

        Raises:
            NotFound: WEBHOOK_NOT_FOUND, if it is unknown or of another owner.
            Conflict: ETAG_MISMATCH, if it has changed since the caller read it.
            InvalidArgument: INVALID_FIELD, if the URL must not be called, or a type of event is unknown.
        """
        async with self._of_webhook(caller, webhook_id) as (connection, webhook):
            if etag and etag != webhook.etag:
                raise Conflict(
                    f"webhook {webhook_id} was changed since it was read; get it again and repeat the change",
                    reason="ETAG_MISMATCH",
                    webhook_id=webhook_id,
                )
            if not webhook.differs(fields):
                return webhook
            now = self._clock()
            changed = webhook.changed(now, **fields)
            # What does not change is not checked again: the operator may have allowed other networks before.
            if changed.url != webhook.url:
                refuse_url(url_fault(changed.url, self._networks), "webhook.url")
            added = sorted(set(changed.event_types) - set(webhook.event_types))
            check_event_types(added, "webhook.event_types")
            await webhook_store.update(connection, changed, call_at=changed.call_again(webhook, now))
            details = {"fields": ",".join(sorted(fields))}
            details |= _details(changed, [name for name in fields if webhook.differs({name: fields[name]})])
            await _record(connection, caller, Action.WEBHOOK_UPDATED, changed, now, details)
        return changed

    async def delete(self, caller: Caller, webhook_id: str) -> None:
        """Delete a webhook, with its deliveries.

        Many deliveries are deleted in several transactions. If the last one fails, the webhook is still there
        without some of them.

        Raises:
            NotFound: WEBHOOK_NOT_FOUND, if it is unknown or of another owner.
        """
        while True:
            async with self._of_webhook(caller, webhook_id) as (connection, webhook):
                deleted = await webhook_store.delete_deliveries(connection, webhook_id, size=_DELETED_AT_ONCE)
                if deleted < _DELETED_AT_ONCE:
                    await webhook_store.delete(connection, webhook_id)
                    details = _details(webhook, ("url",))
                    await _record(connection, caller, Action.WEBHOOK_DELETED, webhook, self._clock(), details)
                    return

    async def rotate_secret(self, caller: Caller, webhook_id: str, overlap: timedelta) -> tuple[Webhook, str]:
        """Give a webhook a new secret; return both. The old ones sign for `overlap` at most.

        Raises:
            NotFound: WEBHOOK_NOT_FOUND, if it is unknown or of another owner.
            FailedPrecondition: MAX_WEBHOOK_SECRETS, if too many secrets would sign; WEBHOOKS_NOT_ENABLED.
        """
        refuse_without_keys(self._keys)
        async with self._of_webhook(caller, webhook_id) as (connection, webhook):
            now = self._clock()
            rotated = webhook.rotated(now, self._keys.current_id, overlap)
            await webhook_store.update(connection, rotated)
            end = rotated.old_secret_expire_time(now)
            details = {"old_secret_expire_time": end.isoformat() if end else ""}
            await _record(connection, caller, Action.WEBHOOK_SECRET_ROTATED, rotated, now, details)
        return rotated, self._keys.shown(webhook_id, rotated.secrets[0])

    @asynccontextmanager
    async def _of_webhook(self, caller: Caller, webhook_id: str) -> AsyncIterator[tuple[Connection, Webhook]]:
        """Yield a transaction and a webhook that nobody else changes before its commit."""
        async with self._authority.transaction(caller) as (connection, _):
            found = await webhook_store.find(connection, webhook_id, owner_id=caller.confined_to, lock=True)
            yield connection, visible(caller, webhook_id, found)


def _details(webhook: Webhook, names: Sequence[str]) -> dict[str, str]:
    """Return those of these fields that the audit log shows. Of a URL the host: the rest may be secret."""
    shown = {
        "url": {"host": urlsplit(webhook.url).netloc},
        "event_types": {"event_types": " ".join(webhook.event_types)},
        "enabled": {"enabled": str(webhook.enabled).lower()},
    }
    return {name: text for field in names for name, text in shown.get(field, {}).items()}


async def _record(
    connection: Connection,
    caller: Caller,
    action: Action,
    webhook: Webhook,
    at: datetime,
    details: Mapping[str, str],
) -> None:
    await audit.record(
        connection,
        caller,
        action,
        at=at,
        target_id=webhook.webhook_id,
        owner_id=webhook.owner_id,
        details=details,
    )
