"""The gRPC transport: protobuf in, protobuf out, and no decisions.

`endpoint` handles every RPC of every service: it passes the entrance, reads and validates the message,
calls the use case, and turns errors into statuses. `public` handles health and reflection, which need no
caller. `arrivals`, `answers` and `connections` bound what the port keeps for clients.
"""
