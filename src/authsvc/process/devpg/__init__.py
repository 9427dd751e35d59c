"""The embedded PostgreSQL of `authsvc dev` and of the tests: a real server, and no Docker.

Mechanism: `initdb` and `postgres` come from the `embedded` extra, else from the system. The data directory
holds the cluster, its password, its port, the log of its last run, and a lock. `postgres` is a direct child,
in a session of its own: Ctrl-C reaches us first, and we stop it last. PostgreSQL refuses root, so for root it
runs as the owner of the data directory, else as `postgres` or `nobody`.

Bound: one server for a data directory, on 127.0.0.1 only, no Unix socket, scram-sha-256 for everybody. On
Linux the kernel stops the server when this process dies, whatever killed it. Elsewhere a SIGKILL of this
process leaves the server running: the next start refuses, and names it.

When it fails: a `DevPostgresError` says what to do, or ends with PostgreSQL's own log. What was committed
stays: the next start recovers it, on the same port if it can. `kept_running` starts a server that has ended.
An interrupted `initdb` leaves no cluster.
"""

from authsvc.process.devpg.binaries import Binaries
from authsvc.process.devpg.error import DevPostgresError
from authsvc.process.devpg.restarts import kept_running
from authsvc.process.devpg.server import DevPostgres

__all__ = ["Binaries", "DevPostgres", "DevPostgresError", "kept_running"]
