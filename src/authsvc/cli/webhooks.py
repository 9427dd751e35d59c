"""`authsvc webhooks`: registers webhooks, and shows what was delivered to them.

Commands that make a secret print only the secret to standard output, so that it can be piped. Tables and
notes go to standard error then.
"""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.cli.call import ClientError, Metadata, calling, first, notes, output, show, when
from authsvc.cli.contacts import read_contact
from authsvc.cli.parameters import Duration
from authsvc.cli.webhook_tables import deliveries_table, webhook_fields, webhooks_table
from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.v1 import webhook_service_pb2_grpc

webhooks = cyclopts.App(
    name="webhooks",
    help_format="plaintext",
    help="Register webhooks, and see what was delivered to them.\n\n"
    "Calls the service at AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY. The defaults are the service "
    "of `authsvc dev` and its admin.key.",
)
_Service = tuple["webhook_service_pb2_grpc.WebhookServiceAsyncStub", Metadata]
_AsJson = Annotated[bool, Parameter(name="--json", negative="")]
_Several = Annotated[tuple[str, ...], Parameter(negative="")]


@webhooks.command
async def create(
    owner_id: str,
    url: str,
    *,
    event: _Several = (),
    description: str = "",
    contact: _Several = (),
    disabled: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Create a webhook and print its secret, which is never shown again.

    To keep the secret where others cannot read it: (umask 077; authsvc webhooks create … > webhook.secret)

    Parameters
    ----------
    owner_id
        The owner whose events the URL gets; authsvc for those of all owners.
    url
        The URL to call, https://...
    event
        A type of event to call it for, for instance key.expiring; repeat for several. Default: all.
    description
        What the webhook is for.
    contact
        A person or team to tell when calls fail, as "Name <mail@example.org>"; repeat for several.
    disabled
        Do not call it yet.
    """
    request = pb.CreateWebhookRequest(
        owner_id=owner_id,
        url=url,
        description=description,
        event_types=event,
        technical_contacts=[read_contact(text) for text in contact],
        disabled=disabled,
    )
    async with _service() as (stub, metadata):
        answer = await stub.CreateWebhook(request, metadata=metadata)
    _tell(answer.secret)
    notes.print(webhooks_table([answer.webhook]))


@webhooks.command
async def get(webhook_id: str, *, as_json: _AsJson = False) -> None:
    """Show a webhook.

    Parameters
    ----------
    webhook_id
        The id of the webhook, as shown by `authsvc webhooks list`.
    as_json
        Print one JSON object instead of a table.
    """
    async with _service() as (stub, metadata):
        webhook = await stub.GetWebhook(pb.GetWebhookRequest(webhook_id=webhook_id), metadata=metadata)
    show([webhook], 1, as_json=as_json, table=webhook_fields, more=False)


@webhooks.command(name="list")
async def list_(owner_id: str, *, limit: int = 100, as_json: _AsJson = False) -> None:
    """List the webhooks of an owner.

    Parameters
    ----------
    owner_id
        The owner whose webhooks are listed.
    limit
        The maximum number of webhooks to show.
    as_json
        Print one JSON object per line instead of a table.
    """
    request = pb.ListWebhooksRequest(owner_id=owner_id)
    async with _service() as (stub, metadata):
        ask = partial(stub.ListWebhooks, metadata=metadata)
        found = await first(limit, request, ask, lambda page: page.webhooks)
    show(found, limit, as_json=as_json, table=webhooks_table, more=bool(request.page_token))


@webhooks.command
async def update(
    webhook_id: str,
    *,
    url: str | None = None,
    event: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None,
    all_events: Annotated[bool, Parameter(negative="")] = False,
    description: str | None = None,
    contact: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None,
    no_contacts: Annotated[bool, Parameter(negative="")] = False,
    enabled: bool | None = None,
    etag: str = "",
    as_json: _AsJson = False,
) -> None:
    """Update the given fields of a webhook, and show the result. The secret does not change.

    Parameters
    ----------
    webhook_id
        The id of the webhook, as shown by `authsvc webhooks list`.
    url
        The URL to call.
    event
        A type of event to call it for; repeat for several. Replaces the previous ones.
    all_events
        Call it for all types of events.
    description
        What the webhook is for.
    contact
        A person or team to tell when calls fail; repeat for several. Replaces the previous ones.
    no_contacts
        Remove all contacts.
    enabled
        Whether the URL is called. What happens while it is not is not delivered later.
    etag
        Update the webhook only if this is its current etag.
    as_json
        Print one JSON object instead of a table.
    """
    if (event and all_events) or (contact and no_contacts):
        raise ClientError(
            "--event and --all-events are mutually exclusive, and so are --contact and --no-contacts"
        )
    given: Mapping[str, object] = {
        "url": url,
        "event_types": () if all_events else event,
        "description": description,
        "technical_contacts": () if no_contacts else contact and [read_contact(text) for text in contact],
        "enabled": enabled,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise ClientError("nothing to update; give at least one field, for instance --enabled; see --help")
    webhook = pb.Webhook(webhook_id=webhook_id, etag=etag, **changes)  # type: ignore[arg-type]
    request = pb.UpdateWebhookRequest(webhook=webhook, update_mask=FieldMask(paths=sorted(changes)))
    async with _service() as (stub, metadata):
        webhook = await stub.UpdateWebhook(request, metadata=metadata)
    show([webhook], 1, as_json=as_json, table=webhook_fields, more=False)


@webhooks.command
async def delete(webhook_id: str) -> None:
    """Delete a webhook with its deliveries, also those that were not made yet.

    Parameters
    ----------
    webhook_id
        The id of the webhook, as shown by `authsvc webhooks list`.
    """
    async with _service() as (stub, metadata):
        await stub.DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=webhook_id), metadata=metadata)
    output.print(f"{webhook_id} is deleted.")


@webhooks.command
async def rotate_secret(webhook_id: str, *, overlap: Duration = None) -> None:
    """Replace the secret of a webhook and print the new one, which is never shown again.

    To keep it where others cannot read it: (umask 077; authsvc webhooks rotate-secret … > webhook.secret)

    Parameters
    ----------
    webhook_id
        The id of the webhook, as shown by `authsvc webhooks list`.
    overlap
        How much longer calls are signed with the old secret as well, at most 7d; 0s to end it at once, for
        instance if it has leaked. Default: 24h.
    """
    request = pb.RotateWebhookSecretRequest(webhook_id=webhook_id)
    if overlap is not None:
        request.overlap.FromTimedelta(overlap)
    async with _service() as (stub, metadata):
        answer = await stub.RotateWebhookSecret(request, metadata=metadata)
    _tell(answer.secret)
    notes.print(webhooks_table([answer.webhook]))
    if answer.webhook.HasField("old_secret_expire_time"):
        notes.print(
            f"Calls are signed with both secrets until {when(answer.webhook.old_secret_expire_time)}."
        )


@webhooks.command
async def test(webhook_id: str) -> None:
    """Call a webhook once, now, and show how that went. Exit with status 1 if the call failed.

    Parameters
    ----------
    webhook_id
        The id of the webhook, as shown by `authsvc webhooks list`.
    """
    async with _service() as (stub, metadata):
        answer = await stub.TestWebhook(pb.TestWebhookRequest(webhook_id=webhook_id), metadata=metadata)
    status = f", with the status {answer.response_status}" if answer.response_status else ""
    if not answer.delivered:
        raise ClientError(f"the call {answer.message_id} failed{status}: {answer.error}")
    output.print(f"{answer.message_id} was delivered{status}.")


@webhooks.command
async def deliveries(
    webhook_id: str,
    *,
    state: Annotated[tuple[Literal["pending", "delivered", "failed"], ...], Parameter(negative="")] = (),
    limit: int = 100,
    as_json: _AsJson = False,
) -> None:
    """List the deliveries to a webhook of the last 30 days, newest first.

    Parameters
    ----------
    webhook_id
        The id of the webhook, as shown by `authsvc webhooks list`.
    state
        Only deliveries in this state; repeat for several.
    limit
        The maximum number of deliveries to show.
    as_json
        Print one JSON object per line instead of a table.
    """
    request = pb.ListWebhookDeliveriesRequest(webhook_id=webhook_id)
    request.states.extend(
        pb.WebhookDeliveryState.Value(f"WEBHOOK_DELIVERY_STATE_{each.upper()}") for each in set(state)
    )
    async with _service() as (stub, metadata):
        ask = partial(stub.ListWebhookDeliveries, metadata=metadata)
        found = await first(limit, request, ask, lambda page: page.deliveries)
    show(found, limit, as_json=as_json, table=deliveries_table, more=bool(request.page_token))


@webhooks.command
async def redeliver(delivery_id: str) -> None:
    """Make a delivery again, whatever its state. It keeps its id.

    Parameters
    ----------
    delivery_id
        The id of the delivery, as shown by `authsvc webhooks deliveries`.
    """
    async with _service() as (stub, metadata):
        delivery = await stub.RedeliverWebhook(
            pb.RedeliverWebhookRequest(delivery_id=delivery_id), metadata=metadata
        )
    output.print(deliveries_table([delivery]))


@asynccontextmanager
async def _service() -> AsyncIterator[_Service]:
    async with calling() as (channel, metadata):
        stub: webhook_service_pb2_grpc.WebhookServiceAsyncStub
        stub = webhook_service_pb2_grpc.WebhookServiceStub(channel)
        yield stub, metadata


def _tell(secret: str) -> None:
    if sys.stdout.isatty():
        notes.print("The secret, which is shown only once. Give it to the receiver, and keep it from others:")
    print(secret)
