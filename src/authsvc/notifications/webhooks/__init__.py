"""Webhooks: owners register addresses, and these are called with what happens (Standard Webhooks 1.0).

`Webhooks` has one method for each use case of WebhookService: `changes` has those that change a webhook,
`reads` those that show webhooks and deliveries, `calls` a test and a redelivery. The caller is the first
argument, and the use case checks what it may do. A change is made in one transaction, which holds the
authority of its caller until the commit; verification depends on none of it, so no worker is waited for.

Locks are taken in this order: what `revocation.authority` locks, the count of an owner's webhooks, the
webhook, the row of the purge, a delivery, the heads of audit chains.
"""

from authsvc.notifications.webhooks.webhooks import Webhooks

__all__ = ["Webhooks"]
