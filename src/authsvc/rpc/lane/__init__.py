"""The lane: gRPC's transport for our own RPCs, on libnghttp2.

`grpc.aio` serves any RPC, and takes some 240 microseconds of CPU for each. The lane serves `rpc.served`, and
takes some 20.

Mechanism: one object of `ngh2` for each connection turns bytes into events, and answers into bytes
(`connection`). A call whose whole message has arrived, and which memory can answer, is answered before the
next event is looked at; whatever else was asked becomes a task (`stream`). The answers of one wake-up are
written together. `server` accepts, looks at the age of connections, and drains.

Bound: until a call may be read, its client can send one window of its message. While a client does not read
its answers, nothing is read from it, and it is disconnected after ten seconds. Floods of resets, pings,
settings, empty frames and continuations end the connection.

Failure: what breaks HTTP/2 ends the connection by GOAWAY, or the stream by a reset; what breaks gRPC ends the
call by a status. See ADR 27 for what was weighed.
"""
