"""The one way in, for calls over every transport: gRPC, and the check over HTTP.

Mechanism: a transport puts what it knows of a call into an `IncomingCall`, plain values without gRPC or HTTP.
An `Admission` then passes, in this order:

1. the gate: is the worker stopping, or are too many calls in flight?
2. authentication: who calls, by a credential, by a certificate, or anonymously?
3. the limits of the caller's owner, for all but verifications;
4. the scopes that the operation requires.

Bound: a call holds its place in the gate and its share of its owner's calls until its answer is sent
(gRPC) or written (HTTP). Calls that fail before the caller is known are delayed beyond a rate, by address.

Failure: each refusal is counted in the metrics. That of a known caller is also recorded in the audit log of
the caller's owner.
"""
