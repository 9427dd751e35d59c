"""Tells contacts and webhooks what happened to keys, sessions and policies, and what is about to (rule 29).

Mechanism: a trigger of the audit log writes a notification, the outbox, in the transaction of the change.
`spread` writes down who is to get it, one row for each address and each webhook, and `mail` and `webhooks`
send these. `warnings` looks through the keys for what is about to happen, and writes notifications too. Each
of these is done by one notifier of all replicas at a time, or holds the row that it works on, so any
notifier goes on where another one stopped.

Bound: batches of fixed sizes, a pause between two, and a limit of mails an hour for each address and owner.
No change and no verification waits for any of this.

Failure: everything that is to be sent is a row, and is noted when it was sent. So a crash loses nothing.
What was being sent at that moment is sent once more, under the same id.
"""
