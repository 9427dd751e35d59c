"""authsvc issues, lists, rotates, revokes and verifies API keys.

A request enters at `rpc`, is answered by a use case, which asks `store` and
speaks in `model` words; what is verified is answered from memory by `verify`.
Imports run one way only: cli → app → rpc → keys → verify, store → model.
"""
