"""WebhookService: each RPC calls a use case between two conversions."""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from authsvc.model.caller import Caller
from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.webhook import USUAL_OVERLAP, DisableReason, Webhook, WebhookQuery
from authsvc.model.webhook_delivery import DeliveryQuery, DeliveryState, WebhookDelivery
from authsvc.notifications.webhooks import Webhooks
from authsvc.rpc.answer_size import shown
from authsvc.rpc.convert import contact_messages, contacts, timestamp
from authsvc.rpc.update_mask import mask_violations
from authsvc.v1 import webhook_service_pb2 as pb

_DEFAULT_PAGE_SIZE = 50
_REASONS = {
    reason: pb.WebhookDisableReason.Value(f"WEBHOOK_DISABLE_REASON_{reason.name}") for reason in DisableReason
}
_STATES = {
    state: pb.WebhookDeliveryState.Value(f"WEBHOOK_DELIVERY_STATE_{state.name}") for state in DeliveryState
}
_EDITABLE = ("description", "enabled", "event_types", "technical_contacts", "url")


class WebhookService:
    """Serves `authsvc.v1.WebhookService`; the comments in the proto are its specification."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["WebhookService"]

    def __init__(self, webhooks: Webhooks, clock: Callable[[], datetime]) -> None:
        self._webhooks = webhooks
        self._clock = clock

    async def CreateWebhook(
        self, caller: Caller, request: pb.CreateWebhookRequest
    ) -> pb.CreateWebhookResponse:
        """Register a webhook."""
        webhook, secret = await self._webhooks.create(
            caller,
            request.owner_id,
            request.url,
            description=request.description,
            event_types=request.event_types,
            technical_contacts=contacts(request.technical_contacts),
            enabled=not request.disabled,
        )
        return pb.CreateWebhookResponse(webhook=self._message(webhook), secret=secret)

    async def GetWebhook(self, caller: Caller, request: pb.GetWebhookRequest) -> pb.Webhook:
        """Show a webhook."""
        return self._message(await self._webhooks.get(caller, request.webhook_id))

    async def ListWebhooks(self, caller: Caller, request: pb.ListWebhooksRequest) -> pb.ListWebhooksResponse:
        """List an owner's webhooks."""
        page = await self._webhooks.list(
            caller,
            WebhookQuery(request.owner_id),
            page_size=request.page_size or _DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
        )
        webhooks, next_page_token = await shown(page, self._message)
        return pb.ListWebhooksResponse(webhooks=webhooks, next_page_token=next_page_token)

    async def UpdateWebhook(self, caller: Caller, request: pb.UpdateWebhookRequest) -> pb.Webhook:
        """Change a webhook."""
        asked = request.webhook
        return self._message(
            await self._webhooks.update(caller, asked.webhook_id, _changed_fields(request), asked.etag)
        )

    async def DeleteWebhook(
        self, caller: Caller, request: pb.DeleteWebhookRequest
    ) -> pb.DeleteWebhookResponse:
        """Delete a webhook."""
        await self._webhooks.delete(caller, request.webhook_id)
        return pb.DeleteWebhookResponse()

    async def RotateWebhookSecret(
        self, caller: Caller, request: pb.RotateWebhookSecretRequest
    ) -> pb.RotateWebhookSecretResponse:
        """Replace the secret of a webhook."""
        overlap = request.overlap.ToTimedelta() if request.HasField("overlap") else USUAL_OVERLAP
        webhook, secret = await self._webhooks.rotate_secret(caller, request.webhook_id, overlap)
        return pb.RotateWebhookSecretResponse(webhook=self._message(webhook), secret=secret)

    async def TestWebhook(self, caller: Caller, request: pb.TestWebhookRequest) -> pb.TestWebhookResponse:
        """Call a webhook once."""
        message_id, attempt = await self._webhooks.test(caller, request.webhook_id)
        return pb.TestWebhookResponse(
            delivered=not attempt.error,
            response_status=attempt.status,
            error=attempt.error,
            message_id=message_id,
        )

    async def ListWebhookDeliveries(
        self, caller: Caller, request: pb.ListWebhookDeliveriesRequest
    ) -> pb.ListWebhookDeliveriesResponse:
        """List the deliveries of a webhook."""
        wanted = tuple(state for state, number in _STATES.items() if number in request.states)
        page = await self._webhooks.list_deliveries(
            caller,
            DeliveryQuery(request.webhook_id, wanted or tuple(DeliveryState)),
            page_size=request.page_size or _DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
        )
        deliveries, next_page_token = await shown(page, _delivery_message)
        return pb.ListWebhookDeliveriesResponse(deliveries=deliveries, next_page_token=next_page_token)

    async def RedeliverWebhook(
        self, caller: Caller, request: pb.RedeliverWebhookRequest
    ) -> pb.WebhookDelivery:
        """Make a delivery again."""
        return _delivery_message(await self._webhooks.redeliver(caller, request.delivery_id))

    def _message(self, webhook: Webhook) -> pb.Webhook:
        return pb.Webhook(
            webhook_id=webhook.webhook_id,
            owner_id=webhook.owner_id,
            url=webhook.url,
            description=webhook.description,
            event_types=webhook.event_types,
            technical_contacts=contact_messages(webhook.technical_contacts),
            enabled=webhook.enabled,
            disable_reason=pb.WEBHOOK_DISABLE_REASON_UNSPECIFIED
            if webhook.enabled
            else _REASONS[webhook.disable_reason],
            create_time=timestamp(webhook.create_time),
            creator_id=webhook.creator_id,
            update_time=timestamp(webhook.update_time),
            etag=webhook.etag,
            failing_since=timestamp(webhook.failing_since),
            old_secret_expire_time=timestamp(webhook.old_secret_expire_time(self._clock())),
        )


def _delivery_message(delivery: WebhookDelivery) -> pb.WebhookDelivery:
    is_pending = delivery.state is DeliveryState.PENDING
    return pb.WebhookDelivery(
        delivery_id=delivery.delivery_id,
        webhook_id=delivery.webhook_id,
        notification_id=delivery.notification_id,
        owner_id=delivery.owner_id,
        type=delivery.type,
        state=_STATES[delivery.state],
        attempt_count=delivery.attempt_count,
        create_time=timestamp(delivery.create_time),
        last_attempt_time=timestamp(delivery.attempt_time),
        next_attempt_time=timestamp(delivery.next_time) if is_pending else None,
        response_status=delivery.response_status,
        error=delivery.error,
    )


def _changed_fields(request: pb.UpdateWebhookRequest) -> dict[str, object]:
    """Return the fields that the mask names, with their new values; raise InvalidArgument (rule 8)."""
    webhook, paths = request.webhook, list(request.update_mask.paths)
    violations = mask_violations(paths, _EDITABLE, pb.Webhook.DESCRIPTOR)
    names = _EDITABLE if paths == ["*"] else paths
    if "url" in names and not webhook.url:
        violations.append(FieldViolation("webhook.url", "string.min_len", "must not be empty"))
    if violations:
        raise InvalidArgument(*violations)
    values: dict[str, object] = {
        "description": webhook.description,
        "enabled": webhook.enabled,
        "event_types": tuple(sorted(webhook.event_types)),
        "technical_contacts": contacts(webhook.technical_contacts),
        "url": webhook.url,
    }
    return {name: values[name] for name in names}
