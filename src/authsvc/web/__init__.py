"""What is asked over HTTP at AUTHSVC_WEB_LISTEN: the RPCs as JSON, and the pages of the console.

Mechanism: `rpcs` calls the RPCs of the service in this process, with the credential of whoever asks. So they
pass the same entrance, the same checks and the same limits as over gRPC, and nothing here has rights of its
own. `connect` translates the Connect protocol, and `application` says what is served at which path.
"""
