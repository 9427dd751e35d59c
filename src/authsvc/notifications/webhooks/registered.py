"""What the use cases of webhooks have in common."""

from authsvc.model.caller import Caller
from authsvc.model.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from authsvc.model.webhook import Webhook
from authsvc.notifications.webhooks.signing_keys import SigningKeys


def refuse_without_keys(keys: SigningKeys) -> None:
    """Raise FailedPrecondition if the operator has set no key that secrets are derived from."""
    if not keys.current_id:
        raise FailedPrecondition(
            "webhooks are not enabled on this service; its operator sets AUTHSVC_WEBHOOK_KEYS to a key that "
            "`openssl rand -base64 32` makes, and restarts it",
            reason="WEBHOOKS_NOT_ENABLED",
            setting="AUTHSVC_WEBHOOK_KEYS",
        )


def refuse_url(fault: str, path: str) -> None:
    """Raise InvalidArgument for a URL with a fault."""
    if fault:
        raise InvalidArgument(FieldViolation(path, "webhook.url", fault))


def visible(caller: Caller, webhook_id: str, webhook: Webhook | None) -> Webhook:
    """Return the webhook; raise NotFound if it is unknown or of another owner (rule 19)."""
    if webhook is None or not caller.acts_on(webhook.owner_id):
        raise NotFound(
            f"webhook {webhook_id} is not known", reason="WEBHOOK_NOT_FOUND", webhook_id=webhook_id
        )
    return webhook
