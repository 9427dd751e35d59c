"""Sign-in of staff by OpenID Connect: the authorization code flow, with PKCE.

`sign_in` has the two requests of a browser, `transaction` what its cookie holds in between. `provider` is the
OpenID provider, asked by `http_client`; `id_token` verifies what it says, `staff` reads who that is and which
scopes they get, and `client` is what the operator has set.
"""
