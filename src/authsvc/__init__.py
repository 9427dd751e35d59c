"""authsvc issues, lists, rotates, revokes and verifies API keys, and keeps the sessions of users.

A request comes in through `rpc` or `gateway`, passes `entrance`, and is answered by a use case in `keys`,
`sessions` or `audit`. Use cases read and write through `store` and speak in `model` words. Verification is
answered from memory by `verify`, and `revocation` makes a change true on every worker before it is answered.

Imports run one way: cli → process → app → rpc, gateway → entrance → keys, sessions → audit → revocation →
verify → store → model.
"""

#: The version of both distributions, `authsvc` and `authsvc-client`. Their pyproject.toml files read it here.
__version__ = "0.1.0"
