"""Authorization of requests for proxies: whether a request may pass, and on whose behalf.

Mechanism: the proxy describes a request. The credential in it is found and verified by the same Verifier as
everywhere, against the scopes that the route requires. The answer says what the proxy forwards, or what the
client gets. `Access` decides; `ext_authz` (Envoy, over gRPC) and `http_check` (nginx, Caddy, Traefik)
translate.

Bound: every request is decided on its own. Answers are not cached, so none can be given to another route,
owner or proxy. A decision from memory has no await between the verdict and the answer.

Failure: when in doubt, a request is refused: for an ambiguous credential or path, a path without a route,
or an internal error. If the decision is not possible now, the answer is 503 with Retry-After, and never a
pass.
"""
