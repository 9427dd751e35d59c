"""TestWebhook, RedeliverWebhook."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from authsvc.model.caller import Caller
from authsvc.model.errors import FailedPrecondition, NotFound, Overloaded
from authsvc.model.identifier import new_identifier
from authsvc.model.notification import Notification
from authsvc.model.webhook import CALL_AGAIN, TEST_TYPE, Attempt, Webhook
from authsvc.model.webhook_delivery import DeliveryState, WebhookDelivery
from authsvc.notifications.body import body_of
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.registered import refuse_without_keys
from authsvc.notifications.webhooks.signing_keys import SigningKeys
from authsvc.revocation.authority import Authority
from authsvc.store import webhooks as webhook_store


class WebhookCalls(Protocol):
    """Calls webhooks for those who ask for it."""

    _authority: Authority
    _keys: SigningKeys
    _webhook_caller: WebhookCaller
    _clock: Callable[[], datetime]
    # The webhooks whose tests this worker makes now.
    _in_test: set[str]

    async def get(self, caller: Caller, webhook_id: str) -> Webhook:
        """Return a webhook, as `WebhookReads` does."""

    async def test(self, caller: Caller, webhook_id: str) -> tuple[str, Attempt]:
        """Call a webhook once with an event for tests; return the id of the message, and the outcome.

        Nothing of the database is held meanwhile.

        Raises:
            NotFound: WEBHOOK_NOT_FOUND, if it is unknown or of another owner (rule 19).
            FailedPrecondition: WEBHOOKS_NOT_ENABLED; WEBHOOK_KEY_MISSING, if its secret cannot be derived.
            Overloaded: WEBHOOK_TEST_IN_PROGRESS, while this worker makes another test of it.
        """
        refuse_without_keys(self._keys)
        webhook = await self.get(caller, webhook_id)
        if not self._keys.has(webhook.secrets[0].key_id):
            raise FailedPrecondition(
                f"the secret of webhook {webhook_id} was derived from a key that is no longer in "
                "AUTHSVC_WEBHOOK_KEYS; rotate the secret, or have the operator add the key again",
                reason="WEBHOOK_KEY_MISSING",
                webhook_id=webhook_id,
            )
        if webhook_id in self._in_test:
            raise Overloaded(
                f"webhook {webhook_id} is being tested; wait for that test to end",
                reason="WEBHOOK_TEST_IN_PROGRESS",
                retry_after=1,
                webhook_id=webhook_id,
            )
        self._in_test.add(webhook_id)
        try:
            test = self._test_of(caller, webhook)
            attempt = await self._webhook_caller.call(webhook, test.notification_id, body_of(test))
        finally:
            self._in_test.discard(webhook_id)
        return test.notification_id, attempt

    async def redeliver(self, caller: Caller, delivery_id: str) -> WebhookDelivery:
        """Make a delivery pending and due now; return it.

        The attempts of one that was pending go on; those of another one start again.

        Raises:
            NotFound: DELIVERY_NOT_FOUND, if it is unknown or of a webhook of another owner (rule 19).
            FailedPrecondition: WEBHOOK_DISABLED; WEBHOOKS_NOT_ENABLED.
        """
        refuse_without_keys(self._keys)
        async with self._authority.transaction(caller) as (connection, _):
            now = self._clock()
            found = await webhook_store.lock_delivery(
                connection, delivery_id, owner_id=caller.confined_to, call_at=now + CALL_AGAIN
            )
            if found is None:
                raise NotFound(
                    f"delivery {delivery_id} is not known; they are kept for 30 days",
                    reason="DELIVERY_NOT_FOUND",
                    delivery_id=delivery_id,
                )
            delivery, enabled = found
            if not enabled:
                raise FailedPrecondition(
                    f"webhook {delivery.webhook_id} is disabled, so nothing is delivered to it; enable it "
                    "first, by an update of `enabled`",
                    reason="WEBHOOK_DISABLED",
                    webhook_id=delivery.webhook_id,
                )
            goes_on = delivery.state is DeliveryState.PENDING
            due = replace(
                delivery,
                state=DeliveryState.PENDING,
                attempt_count=delivery.attempt_count if goes_on else 0,
                next_time=now,
            )
            await webhook_store.update_delivery(connection, due)
        return due

    def _test_of(self, caller: Caller, webhook: Webhook) -> Notification:
        now = self._clock()
        return Notification(
            notification_id=new_identifier("test", now),
            type=TEST_TYPE,
            owner_id=webhook.owner_id,
            event_time=now,
            position=None,
            target_id=webhook.webhook_id,
            actor_id=caller.credential_id,
            actor_owner_id=caller.owner_id,
            actor_type=caller.kind.value if caller.kind else "",
            details={},
            subject={},
        )
