"""The admin listener of a replica: its probes and its metrics, over HTTP, in a process of its own.

Mechanism: an auxiliary process listens at AUTHSVC_ADMIN_LISTEN (`listener`) and answers `/healthz`, `/readyz`
and `/metrics` (`pages`). It asks the workers, the notifier and the follower (`processes`). Each of them has
connected to it by a listener without an address, and answers from its event loop (`answers`). So there is one
port for a replica, and the supervisor has no server in it.

Bound: an answer of a worker is awaited for half a second for `/readyz` and for two seconds for `/metrics`.
While a worker does not answer, only the first request waits for it. A worker spends at most a tenth of its
time on answers. The listener has 64 connections, with one request each.

Failure: a worker that does not answer in time, or is not connected, is `authsvc_up 0`. An address that is
taken is logged and tried again. When this process ends it is started again, and the workers connect again;
no call depends on it. When the supervisor is gone it ends, so `/healthz` is no longer answered.
"""
