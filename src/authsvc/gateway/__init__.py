"""What proxies ask of us: whether a request may through, and as whom.

Mechanism: the proxy shows a request; the credential in it is found and judged by the same Verifier as
everywhere, against the scopes that the route needs, and the answer says what the proxy sends on, or what the
client gets. `Access` decides; `ext_authz` (Envoy, over gRPC) and `http_check` (nginx, Caddy, Traefik) only
translate.

Bound: every request is decided anew. Nothing is remembered of an answer, so none can be given to another
route, owner or proxy. From memory there is no await between the verdict and the answer.

Failure: whatever is not certain is refused: an ambiguous credential or path, a path that no route names, a
fault of our own. What cannot be known now is 503 with the time after which to ask again, never a pass.
"""
