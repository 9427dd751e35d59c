"""The embedded PostgreSQL of `authsvc dev` and of the tests: a real server, without Docker.

Mechanism: `initdb` and `postgres` come from the `embedded` extra, or else from the system. The data directory
contains the cluster, its password, its port, the log of its last run, and a lock. `postgres` is a direct
child in a session of its own, so Ctrl-C does not reach it, and it is stopped last. PostgreSQL does not run as
root; for root it runs as the owner of the data directory, or else as `postgres` or `nobody`.

Bound: one server for a data directory, on 127.0.0.1 only, no Unix socket, scram-sha-256 for every user. On
Linux the kernel stops the server when this process dies, whatever killed it. Elsewhere a SIGKILL of this
process leaves the server running; the next start refuses, and names its process.

Failure: a DevPostgresError says what to do, or ends with PostgreSQL's own log. Committed data stays: the next
start recovers it, on the same port if it is free. `kept_running` restarts a server that has ended. A
cluster of another major version is left as it is, unless binaries of that version are found. An interrupted
`initdb` leaves no cluster.
"""

from authsvc.process.devpg.binaries import Binaries
from authsvc.process.devpg.error import DevPostgresError
from authsvc.process.devpg.restarts import kept_running
from authsvc.process.devpg.server import DevPostgres

__all__ = ["Binaries", "DevPostgres", "DevPostgresError", "kept_running"]
