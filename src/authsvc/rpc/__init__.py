"""The gRPC transport: protobuf in, protobuf out, and no decisions.

`endpoint` is the one way in: it authenticates, validates, calls a service and
maps errors, for every RPC of every service.
"""
